"""Errors that a user can correct, each in one clear line."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import extract_tb

from bloodcell.runtime import distributed
from bloodcell.runtime.command import continuation
from bloodcell.runtime.console import complain
from bloodcell.runtime.errors import BloodcellError, nearest
from bloodcell.runtime.signals import acknowledge, ending_of


@contextmanager
def one_clear_line() -> Iterator[None]:
    """Print errors that the user can correct in at most three lines and exit with 1; let other exceptions through."""
    try:
        yield
    except KeyboardInterrupt as error:
        exec("")  # CPython ends by SIGINT after an interruption of an `exec` of text, unless another `exec` follows
        word, code = ending_of(error)
        if distributed.reports(error):
            acknowledge()  # if the other thread has not come to it
            complain(f"{word}; go on with: {getattr(error, 'continuation', None) or continuation()}", whole=True)
        raise SystemExit(code) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(141) from None
    except Exception as error:
        if not distributed.reports(error):
            raise SystemExit(1) from None
        if (message := user_message(error)) is None:
            raise
        complain(f"error: {_short(message)}")
        raise SystemExit(1) from None


def _short(message: str) -> str:
    """Return at most three lines of at most 500 printable characters."""
    lines = [line if len(line) <= 500 else f"{line[:500]}..." for line in message.splitlines()[:3]]
    return "\n".join(lines)


def user_message(error: BaseException) -> str | None:
    """Return the message for an error that the user can correct, None for any other."""
    if isinstance(error, BloodcellError):
        text = str(error)  # from a DataLoader's worker with its traceback, which ends with the message
        in_worker = text.startswith("Caught ") and "DataLoader worker" in text
        return text.strip().splitlines()[-1].partition(": ")[2] if in_worker else text
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f" ({error.filename})" if error.filename else ""
        return f"{_DISK[error.errno]}{where}; make room or choose another hydra.run.dir or cache.root"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"a file's name is longer than the system allows; choose a shorter one: {error.filename or ''}"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"there is a file, and no folder, at {error.filename}; choose another folder"
    functions = [frame.name for frame in extract_tb(error.__traceback__)[-1:]]
    if isinstance(error, OSError) and functions in (["mkdir"], ["makedirs"]):  # /proc, /sys
        return f"no folder can be made at {error.filename}; choose another folder"
    if distributed.lost_another(error):
        return distributed.LOST
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # from `expanduser`
        return "a path begins with ~ and a name that no user of this machine has; write ./~ for such a file"
    if type(error).__name__ == "MisconfigurationException":  # Lightning's user errors
        return " ".join(str(error).split())
    if isinstance(error, RuntimeError) and _WORKER_DIED.search(str(error)):
        if "with exit code 1." in f"{error} {error.__cause__}":
            return "a process that decodes images ended, as it says above; resume=RUN continues the training"
        return (
            "a process that decodes images was killed, as the system does where memory runs out; "
            "make room there, and resume=RUN continues the training"
        )
    if isinstance(error, ModuleNotFoundError) and "Requirement '" in str(error):  # Lightning's, of what it can use
        return " ".join(str(error).split())
    if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
        return (
            "batch norm cannot learn from a batch of one image this small; set data.batch_size to 2 or more, give more "
            "training images, or set finetune.batch_norm=frozen"
        )
    package = type(error).__module__.partition(".")[0]
    return _hydra_message(error) if package in ("hydra", "omegaconf") else None


_WORKER_DIED = re.compile(r"DataLoader worker \(pid.*?\) (is killed by signal|exited unexpectedly)")
_DISK = {
    28: "no space left on the disk",
    122: "the disk quota is used up",
    30: "the disk is read-only",
    13: "permission denied",
}


def _hydra_message(error: BaseException) -> str:
    """Return what is wrong with the command line or the configuration, with the most similar valid name."""
    text = f"{error}\n{error.__cause__ or ''}"
    if "LexerNoViableAlt" in str(error):
        what = str(error).splitlines()[0].rpartition(": ")[2]
        return f"cannot read {what}; keys are plain letters, and other text of a list stands in quotes: key='[\"ä\"]'"
    key = re.search(r"full_key: (\S+)", text)
    for pattern, wanted in _TYPES.items():
        if key and (match := re.search(pattern, text)):
            return f"{key[1]}={match.groupdict().get('value', 'null')}; {wanted}"
    if match := re.search(r"Error merging override ~(\S+)", text):
        return f"{match[1]} is needed; give it another value"
    if match := re.search(r"Could not delete from config. The value of '([^']+)' is (.*) and not (.*)\.", text):
        return f"~{match[1]}={match[3]}: {match[1]} is {match[2]}, and it is needed; give it another value"
    if match := re.search(r"Could not (?:override|delete)[^']*'([^']+)'", text):
        return _no_key(match[1].lstrip("+~"))
    if match := re.search(r"Key '([^']+)' (?:is )?not in", text):
        return _no_key((key or match)[1])
    if match := re.search(r"Could not find '([^']+)'", text):
        from bloodcell.runtime.config import options

        group, _, option = match[1].rpartition("/")
        if not group:
            return f"no configuration '{option}'"
        return f"no option '{option}' in group '{group}'; {nearest(option, options(group))}"
    if match := re.search(r"(?:Missing mandatory value|Structured config of type).*?: (\S+)", text):
        return f"{match[1]} is not set; give {match[1]}=..."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:2])


#: OmegaConf's message about a value of another type -> what to give.
_TYPES = {
    r"Value '(?P<value>.*?)' of type '.*?' could not be converted to Integer": "give a whole number",
    r"Value '(?P<value>.*?)' of type '.*?' could not be converted to Float": "give a number",
    r"Value '(?P<value>.*?)' is not a valid bool": "give true or false",
    r"Invalid value assigned: (?P<value>\w+) is not a ListConfig": "give a list, e.g. [a,b]",
    r"Invalid type assigned: .*? is not a subclass of .*?value: (?P<value>.*)": "set its keys one by one",
    r"Cannot convert '.*?' to string: '(?P<value>.*?)'": "give text",
    r"Value '(?P<value>.*?)' of type '.*?' is incompatible with type hint": "give a value of another type",
    r"field '.*?' is not Optional": "it needs a value",
    r"Incompatible value 'None' for field": "it needs a value",
}


def _no_key(key: str) -> str:
    """Return that the configuration has no such dotted key, and what it has instead."""
    from bloodcell.runtime.config import groups

    verb, keys, own = _all_keys()
    group = re.split(r"[.@/=]", key)[0]
    if group in groups() and group not in own:
        return f"no configuration key '{key}': {verb} reads no '{group}'; {verb} --help lists what it reads"
    path = key.rpartition(".")[0]
    if path in keys and not any(other.startswith(f"{path}.") for other in keys):
        return f"no configuration key '{key}': {path} is a value and has no keys"
    return f"no configuration key '{key}'; {nearest(key, [*keys, *own])}"


def _all_keys() -> tuple[str, list[str], list[str]]:
    """Return the verb of the command line, the dotted keys of the configuration that it asks for, and the groups."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from bloodcell.runtime.config import config_dir, flat, groups

    verb = next((a.partition("=")[2] for a in sys.argv if a.startswith("hydra.job.name=")), "train")
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        whole = compose(config_name=verb, return_hydra_config=True)
        own = [group for group in whole.hydra.runtime.choices if group in groups()]
        choices = [a for a in sys.argv[1:] if re.fullmatch(r"[a-z_]+=[\w-]+", a) and a.partition("=")[0] in own]
        cfg = compose(config_name=verb, overrides=choices)
    return verb, [key for key, _ in flat(OmegaConf.to_container(cfg))], own
