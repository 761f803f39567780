"""The pins, the direct requirements and the package's ranges say the same."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import metadata

import pytest
from books import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from lock import without_build


def pins(file: str) -> dict[str, Version]:
    """Each package of a requirements file with its one exact version."""
    found = {}
    for line in (ROOT / file).read_text("utf-8").splitlines():
        if line := line.partition("#")[0].strip():
            requirement = Requirement(line)
            operator, version = next(iter(requirement.specifier)).operator, line.split("==")[1]
            assert operator == "=="
            assert len(requirement.specifier) == 1
            found[canonicalize_name(requirement.name)] = Version(version)
    return found


PINS, DIRECT = pins("requirements.txt"), pins("requirements.in")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_direct_requirement_is_pinned_to_its_version():
    assert {name: PINS.get(name) for name in DIRECT} == DIRECT


def test_the_stack_that_was_asked_for_is_direct():
    wanted = {"jupyter-book", "sphinx", "myst-nb", "torch", "matplotlib", "sympy"}
    assert wanted <= set(DIRECT)
    assert PINS["jupyter-book"].major == 1


def ranges() -> list[str]:
    project = PROJECT["project"]
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(line for extra in extras for line in extra),
            *PROJECT["build-system"]["requires"]]  # fmt: skip


@pytest.mark.parametrize("text", ranges())
def test_the_packages_ranges_admit_the_pins(text: str):
    requirement = Requirement(text)
    name = canonicalize_name(requirement.name)
    assert name in DIRECT
    assert requirement.specifier.contains(PINS[name])


def needs(name: str) -> list[Requirement]:
    """What an installed package needs here, extras left out."""
    lines = metadata.requires(name) or []
    found = [Requirement(line) for line in lines]
    return [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


@pytest.mark.parametrize("name", sorted(PINS))
def test_each_pin_is_installed_and_all_it_needs_is_pinned_too(name: str):
    assert Version(metadata.version(name)).public == PINS[name].public
    accelerator = re.compile(r"nvidia|triton|cuda")
    for need in needs(name):
        other = canonicalize_name(need.name)
        if name == "torch" and accelerator.search(other):
            continue  # of torch's build for GPUs, which requirements.txt leaves open
        assert other in PINS, f"{name} needs {other}"
        assert need.specifier.contains(PINS[other], prereleases=True)


def test_no_pin_names_a_local_build_or_a_host():
    text = (ROOT / "requirements.txt").read_text("utf-8")
    assert not re.search(r"==[^#\s]*\+|://|^-", text, re.MULTILINE)
    assert without_build("torch==2.13.0+cpu  # via x").split() == ["torch==2.13.0", "#", "via", "x"]


def test_python_is_the_one_that_is_promised():
    assert sys.version_info[:2] == (3, 11)
    assert PROJECT["project"]["requires-python"] == ">=3.11"
