"""The command line: one verb a configuration file, every user error in one clear line."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from bloodcell.data.time_limit import end_if_too_slow
from bloodcell.runtime import command, completion, distributed, parent
from bloodcell.runtime.console import SILENCE, progress
from bloodcell.runtime.errors import BloodcellError, nearest
from bloodcell.runtime.hardware import cpu_count, long_lived
from bloodcell.runtime.signals import raising_on_sigterm
from bloodcell.runtime.user_errors import one_clear_line, user_message


class Verb(NamedTuple):
    """What a verb does; conf/VERB.yaml is its configuration."""

    function: str
    purpose: str
    takes: str | None  # the key of words without `key=`


VERBS = {
    "train": Verb("training.multirun.run", "train a classifier and evaluate it", "data.root"),
    "find-lr": Verb("training.find_lr.run", "find the learning rate for a training", "data.root"),
    "tune": Verb("tuning.tune.run", "search for the best settings of a training", "data.root"),
    "audit": Verb("audits.audit.run", "find images of the same cell, and what leaks between splits", "data.root"),
    "cache": Verb("runtime.cache.run", "list or clear what is kept between runs", None),
    "adapt": Verb("training.adapt.run", "adapt a reader to another laboratory by some labelled cells", "checkpoint"),
    "evaluate": Verb("evaluation.evaluate.run", "evaluate a checkpoint on a data set", "checkpoint"),
    "predict": Verb("inference.predict.run", "predict any images with a checkpoint, into a table", "images"),
    "differential": Verb("evaluation.differentials.count.run", "count the white cells of slides by class", "images"),
    "review": Verb(
        "evaluation.reviews.review.run", "list all cells of a folder by doubt, and which to label next", "images"
    ),
    "app": Verb("app.app.run", "serve a page in the browser that judges images", "checkpoint"),
    "export": Verb("exports.export.export", "export a checkpoint for other programs and model hubs", "checkpoint"),
    "paint": Verb("data.synthetic.slides.run", "paint slides with known cells, to try and to test with", None),
}

#: What the usage calls the words of a key, or of a verb; for data.root one word.
WORDS = {"data.root": "[FOLDER]", "checkpoint": "[RUN ...]", "images": "[FOLDER_OR_FILE ...]", None: ""}
WORDS_OF_VERB = {"differential": "[FOLDER]", "adapt": "[RUN]"}

#: Verbs that several processes do together.
SHARED = ("train", "evaluate", "predict")

USAGE = """usage: bloodcell VERB [FOLDER_OR_RUN] [group=option] [key=value] ...

{verbs}

bloodcell VERB --help shows examples and all settings."""


def main(verb: str | None = None) -> None:
    """Run a verb, or that of the first argument, with the arguments of the command line."""
    parent.end_with_parent()
    arguments = sys.argv[1:]
    command.remember(sys.argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to end
    try:
        with one_clear_line(), raising_on_sigterm():
            if (said := completion.answer(arguments, VERBS)) is not None:
                print(said)
                return
            if verb is None:
                verb, arguments = _verb_of(arguments)
            if verb != "app":  # the page goes on without the image
                end_if_too_slow()
            run_verb(verb, arguments)
    except BaseException as error:
        distributed.leave(error)
        raise
    distributed.leave(SystemExit(0))


def program(verb: str | None = None) -> None:
    """Run `main` as all that this process does, and end the process."""
    main(verb)
    distributed.end()


class Done(NamedTuple):
    """What a verb left: its folder, and the value of its function."""

    folder: Path
    value: Any


def call(verb: str, words: Any, settings: dict[str, Any]) -> Done:
    """Run a verb from Python, with a folder, a run or a list of them in place of the command line's words.

    Raises:
        BloodcellError: All that a user can correct.
    """
    given = [] if words is None else words if isinstance(words, list | tuple) else [words]
    arguments = [os.fspath(word) for word in given]
    arguments += [f"{key.replace('__', '.')}={_text_of(value)}" for key, value in settings.items()]
    if "resume=auto" in arguments:
        raise BloodcellError("resume=auto is for the command line; name the run: resume=FOLDER")
    before, failed = sys.argv, list[Exception]()
    command.remember(["bloodcell", verb, *arguments], called=True)

    @contextmanager
    def kept() -> Iterator[None]:  # Hydra would print a line about an error that reaches it
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    try:
        done = run_verb(verb, arguments, kept)
        if failed:
            raise failed[0]
    except Exception as error:
        if isinstance(error, BloodcellError) or (message := user_message(error)) is None:
            raise
        raise BloodcellError(message) from error
    finally:
        sys.argv = before
        command.remember([])
    assert done is not None
    return done


def _text_of(value: Any) -> str:
    """Return a Python value as the command line writes it."""
    if isinstance(value, dict) and all(str(key).isidentifier() for key in value):  # the grammar has no quoted keys
        return "{" + ",".join(f"{key}:{_text_of(one)}" for key, one in value.items()) + "}"
    if value is None or isinstance(value, bool | list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=os.fspath)
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def run_verb(
    verb: str, arguments: list[str], guard: Callable[[], AbstractContextManager[None]] = one_clear_line
) -> Done | None:
    """Let Hydra compose the verb's configuration and call its function, and say first that it is loaded.

    `guard` handles the function's errors.

    Returns:
        What the verb left; None if it only showed something.
    """
    asks = any(argument.partition("=")[0] in _QUESTIONS for argument in arguments)
    place = distributed.announced()
    with ExitStack() as loading:
        if not command.called_from_python():  # whose own objects are to be freed
            loading.enter_context(long_lived())
        if not asks and (place is None or place.rank == 0):
            loading.enter_context(progress("loading", silence=SILENCE if "torch" in sys.modules else 0))
        return _run(verb, arguments, loading, guard)


def _run(
    verb: str, arguments: list[str], loading: ExitStack, guard: Callable[[], AbstractContextManager[None]]
) -> Done | None:
    import hydra

    from bloodcell.runtime.config import config_dir, read_lists, register_resolvers, whole_job_folder

    register_resolvers()
    arguments, asks_help = read_arguments(verb, arguments)
    if resumed := _resumed_run(verb, arguments):
        with loading:
            from bloodcell.training.train import resume

        _join(verb)
        value = resume(*resumed)
        distributed.stop()
        return Done(resumed[0], value)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors reach `one_clear_line`, not Hydra's own report
    # the job is called by its verb, whether started as train.py, bloodcell or python -m bloodcell
    overrides = [_as_text(argument) for argument in arguments if _is_override(argument)]
    flags = [argument for argument in arguments if not _is_override(argument)]
    _check_groups(overrides)
    if asks_help:
        from bloodcell.runtime.help import page

        words = WORDS_OF_VERB.get(verb, WORDS[VERBS[verb].takes])
        usage = " ".join(["bloodcell", verb, words, "[group=option] [key=value] ..."])
        print(page(verb, VERBS[verb].purpose, " ".join(usage.split()), overrides))
        return None
    sys.argv = [sys.argv[0], *overrides, f"hydra.job.name={verb}"]

    done: list[Done] = []

    def task(cfg: Any) -> Any:
        os.chdir(hydra.utils.get_original_cwd())  # paths mean the folder of the command, if Hydra changed it too
        with guard():  # here too: Hydra would put a line of its own before an error that reaches it
            module, _, function = VERBS[verb].function.rpartition(".")
            with loading:
                read_lists(cfg)
                run = getattr(import_module(f"bloodcell.{module}"), function)
            value = run(cfg)
            done.append(Done(whole_job_folder(), value))
            return value

    if not _QUESTIONS & set(flags):
        _join(verb)
    if distributed.here().rank:
        sys.argv.append("hydra.run.dir=.")  # the first one's folder is that of all
    sys.argv += flags  # first or last, and --info would take what follows it
    decorate = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=verb)
    decorate(task)()
    distributed.stop()
    return done[-1] if done else None


#: Hydra's flags that show something instead of running a job.
_QUESTIONS = {"-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion"}


def _join(verb: str) -> None:
    """Meet the other processes of the job, if there are any."""
    place = distributed.announced()
    if place is None or place.size == 1:
        return
    if verb not in SHARED:
        raise BloodcellError(f"{verb} works in one process, and {place.size} were started; start it without them")
    distributed.start()
    import torch

    torch.set_num_threads(cpu_count())  # torchrun allows each process one


def _verb_of(arguments: list[str]) -> tuple[str, list[str]]:
    """Split `VERB ARGUMENT...`; print the usage and exit if there is no verb."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        verbs = "\n".join(f"  {name:<14}{what.purpose}" for name, what in VERBS.items())
        print(USAGE.format(verbs=verbs))
        raise SystemExit(0 if arguments else 2)
    if arguments[0] == "--version":
        from bloodcell import __version__

        print(f"bloodcell {__version__}")
        raise SystemExit(0)
    if arguments[0] not in VERBS:
        raise BloodcellError(f"no verb '{arguments[0]}'; {nearest(arguments[0], VERBS)}")
    return arguments[0], arguments[1:]


def _is_override(argument: str) -> bool:
    """Return whether an argument is `key=value` or `~key`, not a flag, a flag's value or a path."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~")) and not _is_path(argument)


def _is_path(argument: str) -> bool:
    """Return whether an argument such as runs/epoch=3.ckpt is a file or folder; no key has a slash, but for Hydra's."""
    folder = os.path.dirname(argument.partition("=")[0])  # noqa: PTH120 - text
    return bool(folder) and not folder.startswith("hydra") and os.path.lexists(argument)


def _as_text(override: str) -> str:
    """Put a value into quotes if Hydra's grammar cannot read it, or would make numbers of names.

    File names may contain ä, ( and =; a class may be called 01 or 1e3, or have brackets in its name.

    Raises:
        BloodcellError: A list or dict of names cannot be read.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from bloodcell.runtime.config import NAMES, read_names

    key, equals, value = override.partition("=")
    brackets, is_name = value.startswith(("[", "{")), key.lstrip("+") in NAMES
    names = read_names(value) if is_name else None
    try:
        read = OverridesParser.create().parse_override(override).value()
    except HydraException as error:
        if brackets and is_name and names is None:
            example = '{"[a] b": c}' if value.startswith("{") else '["[a] b",c]'
            raise BloodcellError(
                f"cannot read {override}; a name with other signs stands in double quotes, e.g. '{key}={example}'"
            ) from error
        as_text = names is not None or (equals and not brackets and not value.startswith(("'", '"')))
    else:
        is_odd = any(isinstance(one, int | float) for one in _values(read))
        is_odd |= isinstance(read, dict) and not all(isinstance(name, str) for name in read)
        # {a:b} without a blank is one name without a value in YAML
        is_same = not brackets or [one is None for one in _values(names)] == [one is None for one in _values(read)]
        as_text = is_name and is_odd and is_same
    return f"{key}='{value.replace(chr(39), chr(92) + chr(39))}'" if as_text else override


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]


def _check_groups(overrides: list[str]) -> None:
    """Refuse a group without an option."""
    from bloodcell.runtime.config import groups, options

    for override in overrides:
        group, _, option = override.lstrip("~").partition("=")
        named = [one.strip() for one in option.removeprefix("[").removesuffix("]").split(",")]
        none = option != "[]" and any(one in ("", "null", "true", "false") or one.isdigit() for one in named)
        if (none or override.startswith("~")) and group in groups():
            raise BloodcellError(f"{group}= names no option; choose from: {', '.join(sorted(options(group)))}")


def read_arguments(verb: str, arguments: list[str]) -> tuple[list[str], bool]:
    """Return the arguments, words as `key=value` of what the verb takes, and whether help is asked for.

    Raises:
        BloodcellError: A flag does not exist (choices are written without dashes), or flags exclude one another.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    known = parser._option_string_actions
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("-") and flag not in known:
            raise BloodcellError(
                f"no flag '{flag}'; choices are written key=value, e.g. {flag.lstrip('-') or 'model'}=..."
            )
    parser.error = _refuse_usage  # type: ignore[method-assign]  # Hydra makes the parser, and argparse would exit
    given = parser.parse_intermixed_args(arguments)
    if given.config_name is not None or given.config_path is not None:
        raise BloodcellError("--config-name, --config-path: the verb names the configuration, e.g. bloodcell evaluate")
    if given.shell_completion and not any(item.startswith(("install=", "uninstall=", "query=")) for item in arguments):
        raise BloodcellError("--shell-completion needs install=bash, or another shell: fish or zsh")
    if "COMP_LINE" not in os.environ and any(item.startswith("query=") for item in arguments):
        raise BloodcellError("--shell-completion query= is what the shell itself asks; give install=bash, fish or zsh")
    if given.experimental_rerun:
        raise BloodcellError("--experimental-rerun reads a pickle, which may run code; run.json has the run's command")
    modes = [name for name in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(given, name)]
    if len(modes) > 1:
        raise BloodcellError(f"{', '.join('--' + name.replace('_', '-') for name in modes)}: give only one of these")
    if (given.resolve or given.package) and not (given.cfg or given.help):
        raise BloodcellError("--resolve and --package only go with --cfg job")
    words = [word for word in given.overrides if not _is_override(word) and not word.startswith("+")]
    overrides = [argument for argument in given.overrides if argument not in words]
    flags = [argument for argument in arguments if argument not in given.overrides]
    if words:
        overrides = [_override_of(words, verb, overrides), *overrides]
    return [*_of_own_folder(verb, overrides), *overrides, *flags], given.help


def _override_of(words: list[str], verb: str, others: list[str]) -> str:
    """Return what words stand for: a folder of images, or what the verb looks at."""
    key = VERBS[verb].takes
    if key is None or (key == "data.root" and len(words) > 1):
        raise BloodcellError(f"cannot read '{words[-1]}': choices are written key=value; bloodcell {verb} --help")
    if any(other.startswith(f"{key}=") for other in others):
        raise BloodcellError(f"{words[0]} and {key}= are given; give one of them")
    return f"{key}={words[0] if len(words) == 1 else json.dumps(words, ensure_ascii=False)}"


def _of_own_folder(verb: str, overrides: list[str]) -> list[str]:
    """Return the choices that a folder of images implies if neither a kind of data nor an experiment is chosen."""
    named = {override.partition("=")[0] for override in overrides}
    painted = any(name.startswith("data.reader.") for name in named)  # the root of the smears that are painted
    chosen = painted or named & {"data", "experiment", "resume"}
    if VERBS[verb].takes != "data.root" or "data.root" not in named or chosen:
        return []
    return ["experiment=own_folder"] if verb == "train" else ["data=imagefolder"]


def _refuse_usage(message: str) -> NoReturn:
    raise BloodcellError(f"{message}; --hydra-help lists the flags")


def _resumed_run(verb: str, arguments: list[str]) -> tuple[Path, list[str]] | None:
    """Return the run named by `resume=RUN` and the other overrides; None if there is none.

    A resumed run takes its saved configuration, so Hydra has nothing to compose.
    """
    named = [argument for argument in arguments if argument.startswith("resume=")]
    value = named[-1].partition("=")[2].strip("'\"") if named else "null"
    if verb != "train" or value in ("null", "auto") or {*_QUESTIONS, "-m", "--multirun"} & set(arguments):
        return None
    if not value:
        raise BloodcellError("resume= names no run; give resume=RUN, its folder")
    return Path(value), [argument for argument in arguments if argument not in named]
