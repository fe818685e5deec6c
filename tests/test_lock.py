"""The lock file holds what pyproject.toml asks for, of every extra, and nothing without a hash."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ASKED = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
LOCK = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8")
PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", LOCK, re.MULTILINE))


@pytest.mark.parametrize("asked", ASKED)
def test_every_dependency_is_pinned_within_its_range(asked):
    requirement = Requirement(asked)
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_torch_of_the_two_files_is_the_same():
    for line in (ROOT / "requirements-torch.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            assert PINS[name] == version


def test_every_pin_has_a_hash_and_no_line_anything_else():
    pins = re.split(r"^(?=[a-z0-9])", "".join(LOCK.splitlines(keepends=True)[3:]), flags=re.MULTILINE)[1:]
    assert len(pins) == len(PINS) > 100
    for pin in pins:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.+]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n", pin), pin[:200]
