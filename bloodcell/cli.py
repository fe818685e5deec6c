"""The command line: one verb a configuration file, every user error in one clear line."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from bloodcell import ranks
from bloodcell.console import printable
from bloodcell.errors import BloodcellError, nearest
from bloodcell.interrupting import ending_of, raising_on_sigterm

#: Verb -> (module, function that takes the configuration, what it is for). The verb names conf/VERB.yaml.
VERBS = {
    "train": ("bloodcell.jobs", "run", "train a classifier and evaluate it"),
    "find-lr": ("bloodcell.lr_finder", "run", "find the learning rate for a training"),
    "tune": ("bloodcell.tuning.command", "run", "search for the best settings of a training"),
    "audit": ("bloodcell.audit.command", "run", "find which images show the same cell, and what leaks between splits"),
    "cache": ("bloodcell.caching", "run", "list or clear what is kept between runs"),
    "evaluate": ("bloodcell.evaluating", "run", "evaluate a checkpoint on a data set"),
    "predict": ("bloodcell.predicting", "run", "predict any images with a checkpoint, into a table"),
    "app": ("bloodcell.app.command", "run", "serve a page in the browser that judges images"),
    "export": ("bloodcell.exporting.command", "run", "export a checkpoint to an ONNX file, or torch.export's"),
}

USAGE = """usage: bloodcell VERB [group=option] [key=value] ...

{verbs}

bloodcell VERB --help lists the verb's configuration."""


def main(verb: str | None = None) -> None:
    """Run one verb with the arguments of the command line.

    Args:
        verb: Its name; None takes it from the first argument.
    """
    arguments = sys.argv[1:]
    try:
        with one_clear_line(), raising_on_sigterm():
            if verb is None:
                verb, arguments = _verb_of(arguments)
            run_verb(verb, arguments)
    except SystemExit as end:
        ranks.leave(end.code if isinstance(end.code, int) else 1)
        raise


def run_verb(verb: str, arguments: list[str]) -> None:
    """Let Hydra compose the verb's configuration and call its function.

    Raises:
        BloodcellError: Anything that the user got wrong.
    """
    import hydra

    from bloodcell.config import config_dir, register_resolvers

    module, function, _ = VERBS[verb]
    register_resolvers()
    place = ranks.announced()
    if resumed := _resumed_run(verb, arguments):
        run, overrides = resumed
        from bloodcell.training import resume

        ranks.start()
        resume(run, overrides)
        ranks.stop()
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach `one_clear_line` instead of Hydra's own report
    # the job is called by its verb, whether started as train.py, bloodcell or python -m bloodcell
    _check_flags(arguments)
    overrides = [_as_text(argument) for argument in arguments if _is_override(argument)]
    flags = [argument for argument in arguments if not _is_override(argument)]  # Hydra wants them first, or last
    _check_groups(overrides)
    sys.argv = [sys.argv[0], *flags, *overrides, f"hydra.job.name={verb}"]

    def task(cfg: Any) -> Any:
        with one_clear_line():  # here too: Hydra would put a line of its own before an error that reaches it
            return getattr(import_module(module), function)(cfg)

    if place and place.size > 1 and not _QUESTIONS & set(flags):
        _join(verb, flags, overrides, place.rank)
    decorate = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name=verb)
    decorate(task)()
    ranks.stop()


#: Flags of Hydra's that show something in place of running a job.
_QUESTIONS = {"-h", "--help", "--hydra-help", "--version", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion"}


def _join(verb: str, flags: list[str], overrides: list[str], rank: int) -> None:
    """Meet the other processes of the job; the first one's folder is that of all, so that Hydra makes no other.

    Raises:
        BloodcellError: Several processes cannot do that together, or do not meet.
    """
    from hydra import compose, initialize_config_dir

    from bloodcell.config import config_dir
    from bloodcell.launching import check_verb

    check_verb(verb, bool({"-m", "--multirun"} & set(flags)))
    if not flags:  # an experiment may be a multirun without a flag
        with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
            cfg = compose(config_name=verb, overrides=overrides, return_hydra_config=True)
        check_verb(verb, str(cfg.hydra.mode) == "RunMode.MULTIRUN")
    ranks.start()
    if rank:
        sys.argv.append("hydra.run.dir=.")


def _verb_of(arguments: list[str]) -> tuple[str, list[str]]:
    """Split `VERB ARGUMENT...`; print the usage and leave where there is no verb."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        verbs = "\n".join(f"  {name:<10}{what}" for name, (_, _, what) in VERBS.items())
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
    """Tell `key=value` and `~key` from a flag and its value."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


def _as_text(override: str) -> str:
    """Put a value into quotes that Hydra's grammar has no reading for: ä, ( and = stand in many a file's name."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = override.partition("=")
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        if equals and not value.startswith(("[", "{", "'", '"')):
            return f"{key}='{value.replace(chr(39), chr(92) + chr(39))}'"
    return override


def _check_groups(overrides: list[str]) -> None:
    """Refuse a group that is left without an option."""
    for override in overrides:
        group, _, option = override.lstrip("~").partition("=")
        if (option in ("", "null") or option.isdigit()) and group in _groups():
            raise BloodcellError(f"{group}= names no option; choose from: {', '.join(sorted(_options(group)))}")


def _check_flags(arguments: list[str]) -> None:
    """Refuse a flag that Hydra does not have; choices are written without dashes."""
    from hydra._internal.utils import get_args_parser

    known = get_args_parser()._option_string_actions
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("-") and flag not in known:
            raise BloodcellError(
                f"no flag '{flag}'; choices are written key=value, e.g. {flag.lstrip('-') or 'model'}=..."
            )


def _resumed_run(verb: str, arguments: list[str]) -> tuple[Path, list[str]] | None:
    """Return the run named by `resume=RUN` and the other overrides; None where there is none.

    A resumed run takes its saved configuration, so Hydra has nothing to compose.
    """
    named = [argument for argument in arguments if argument.startswith("resume=")]
    value = named[-1].partition("=")[2] if named else ""
    if verb != "train" or value in ("", "null", "auto") or any(a in arguments for a in ("--cfg", "-c", "-m")):
        return None
    return Path(value), [argument for argument in arguments if argument not in named]


@contextmanager
def one_clear_line() -> Iterator[None]:
    """Print what the user got wrong in a line or two and exit with 1; let the program's own faults through."""
    try:
        yield
    except KeyboardInterrupt as error:
        exec("")  # one that went through an `exec` of text has CPython die by SIGINT at the end, unless another follows
        word, code = ending_of(error)
        asked = code == 143 and ranks.here().size > 1  # by who started the processes, and says why
        if not asked and ranks.is_first_to_fail(error):
            print(f"{word}; resume=RUN continues a training, the same command again all else", file=sys.stderr)
        raise SystemExit(code) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(141) from None
    except Exception as error:
        first, message = ranks.is_first_to_fail(error), user_message(error)
        if first and message is None:
            raise
        if first:
            print(f"error: {_short(str(message))}", file=sys.stderr)
        raise SystemExit(1 if first else ranks.SILENT) from None


def _short(message: str) -> str:
    """Return three lines of a message at most, none too long and none with what a terminal would obey."""
    lines = [line if len(line) <= 500 else f"{line[:500]}..." for line in message.splitlines()[:3]]
    return printable("\n".join(lines))


def user_message(error: BaseException) -> str | None:
    """Return the one clear line for an error that the user can mend; None for any other."""
    if isinstance(error, BloodcellError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f" ({error.filename})" if error.filename else ""
        return f"{_DISK[error.errno]}{where}; make room or choose another hydra.run.dir or cache.root"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"a file's name is longer than the system allows; choose a shorter one: {error.filename or ''}"
    if ranks.is_broken(error):
        return ranks.ENDED
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # of `expanduser`
        return "a path begins with ~ and a name that no user of this machine has; write ./~ for such a file"
    if type(error).__name__ == "MisconfigurationException":  # Lightning's word for what a user got wrong
        return " ".join(str(error).split())
    if isinstance(error, RuntimeError) and _WORKER_DIED.search(str(error)):
        return (
            "a process that decodes images was killed, as the system does where memory runs out; "
            "make room there, and resume=RUN continues the training"
        )
    package = type(error).__module__.partition(".")[0]
    return _hydra_message(error) if package in ("hydra", "omegaconf") else None


#: What torch says of it.
_WORKER_DIED = re.compile(r"DataLoader worker \(pid.*?\) (is killed by signal|exited unexpectedly)")

_DISK = {
    28: "no space left on the disk",
    122: "the disk quota is used up",
    30: "the disk is read-only",
    13: "permission denied",
}


def _hydra_message(error: BaseException) -> str:
    """Say what is wrong with the command line or the configuration, and which valid name is nearest."""
    text = f"{error}\n{error.__cause__ or ''}"
    if "LexerNoViableAlt" in str(error):
        what = str(error).splitlines()[0].rpartition(": ")[2]
        return f"cannot read {what}; keys are plain letters, and other text of a list stands in quotes: key='[\"ä\"]'"
    if match := re.search(r"Could not (?:override|delete)[^']*'([^']+)'", text):
        return f"no configuration key '{match[1]}'; {nearest(match[1].lstrip('+~'), _all_keys())}"
    if match := re.search(r"Key '([^']+)' is not in struct", text):
        full = (re.search(r"full_key: (\S+)", text) or match)[1]
        return f"no configuration key '{full}'; {nearest(full, _all_keys())}"
    if match := re.search(r"Could not find '([^']+)'", text):
        group, _, option = match[1].rpartition("/")
        return (
            f"no option '{option}' in group '{group}'; {nearest(option, _options(group))}"
            if group
            else (f"no configuration '{option}'")
        )
    if match := re.search(r"(?:Missing mandatory value|Structured config of type).*?: (\S+)", text):
        return f"{match[1]} is not set; give {match[1]}=..."
    if match := re.search(r"Could not override '([^']+)'. No match in the defaults list", text):
        return f"no group '{match[1]}'; {nearest(match[1], _groups())}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:2])


def _all_keys() -> list[str]:
    """Return every dotted key of the configuration that the command line asks for, so far as it composes."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from bloodcell.config import config_dir

    verb = next((a.partition("=")[2] for a in sys.argv if a.startswith("hydra.job.name=")), "train")
    choices = [a for a in sys.argv[1:] if re.fullmatch(r"[a-z_]+=[\w-]+", a) and a.partition("=")[0] in _groups()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        cfg = compose(config_name=verb, overrides=choices)

    def keys(node: Any, prefix: str) -> Iterator[str]:
        for key in node:
            yield f"{prefix}{key}"
            child = None if OmegaConf.is_missing(node, key) else node._get_node(key)
            if child is not None and OmegaConf.is_dict(child) and not child._is_none():
                yield from keys(child, f"{prefix}{key}.")

    return [*keys(cfg, ""), *_groups()]


def _groups() -> list[str]:
    from bloodcell.config import config_dir

    return [folder.name for folder in config_dir().iterdir() if folder.is_dir() and folder.name != "hydra"]


def _options(group: str) -> list[str]:
    from bloodcell.config import config_dir

    return [file.stem for file in (config_dir() / group).glob("*.yaml") if file.stem != "base"]
