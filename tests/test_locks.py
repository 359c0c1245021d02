"""Each lock agrees with pyproject.toml and constraints.txt, and gives hashes of all that it names.

Nothing is asked of an index: what a package needs is written in the lock, beside the package that needs it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETS = {path.stem: path for path in (ROOT / "locks").glob("*.txt")}
AGAIN = "run `make locks`"


@dataclass
class Locked:
    """What a lock says of one package."""

    requirement: Requirement
    hashes: list[str] = field(default_factory=list)
    needed_by: set[str] = field(default_factory=set)
    """Names of packages, and "" for pyproject.toml."""

    @property
    def version(self) -> str:
        [pin] = self.requirement.specifier
        assert pin.operator == "==", self.requirement
        return pin.version


def read(text: str) -> dict[str, Locked]:
    """Return what a lock says of each package, by name."""
    found: dict[str, Locked] = {}
    for line in text.splitlines():
        if not line.startswith(" "):
            requirement = Requirement(line.removesuffix("\\"))
            current = found[canonicalize_name(requirement.name)] = Locked(requirement)
        elif digest := re.fullmatch(r" +--hash=(\S+)( \\)?", line):
            current.hashes.append(digest[1])
        elif (by := re.fullmatch(r" +#(?: via)? +(\S.*)", line)) and by[1] not in ("via", "-c constraints.txt"):
            ours = "(pyproject.toml)" in by[1]
            current.needed_by.add("" if ours else canonicalize_name(by[1]))
    return found


LOCKS = {name: read(path.read_text()) for name, path in SETS.items()}


def declared(extra: str) -> Iterator[Requirement]:
    """Yield the requirements of the base, of an extra and of the extras that it names."""
    project = PYPROJECT["project"]
    for line in [*project["dependencies"], *project["optional-dependencies"][extra]]:
        requirement = Requirement(line)
        if requirement.name == project["name"]:
            for other in requirement.extras:
                yield from declared(other)
        else:
            yield requirement


def build_requirements() -> list[Requirement]:
    return [Requirement(line) for line in PYPROJECT["build-system"]["requires"]]


def test_make_or_an_image_installs_each_lock_and_no_other() -> None:
    makefile = (ROOT / "Makefile").read_text()
    images = "".join(file.read_text() for file in (ROOT / "deploy" / "docker").glob("*.Dockerfile"))
    by_make = set(re.findall(r"--require-hashes -r locks/(\w+)\.txt", makefile))
    assert by_make | set(re.findall(r"deploy/make-runtime (\w+) ", images)) == set(SETS)
    [made] = re.findall(r"for set in ([\w ]+); do", makefile)
    assert set(made.split()) == set(SETS)


@pytest.mark.parametrize("name", SETS)
def test_a_lock_holds_the_versions_of_the_constraints(name: str) -> None:
    pins: dict[str, str] = {
        canonicalize_name(each.name): str(each.specifier).removeprefix("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
        for each in [Requirement(line)]
    }  # fmt: skip
    other = {
        package: f"locked {locked.version}, constraints.txt: {pins.get(package)}"
        for package, locked in LOCKS[name].items() if pins.get(package) != locked.version
    }  # fmt: skip
    assert other == {}, AGAIN


@pytest.mark.parametrize("name", SETS)
def test_a_lock_holds_what_its_extra_declares(name: str) -> None:
    lock, wanted = LOCKS[name], list(declared(name))
    direct = {package for package, locked in lock.items() if "" in locked.needed_by}
    assert direct == {canonicalize_name(each.name) for each in wanted}, AGAIN
    for each in [*wanted, *build_requirements()]:
        locked = lock[canonicalize_name(each.name)]
        assert locked.version in each.specifier, AGAIN
        assert each in build_requirements() or locked.requirement.marker == each.marker, AGAIN


@pytest.mark.parametrize("name", SETS)
def test_a_lock_holds_nothing_that_nobody_needs(name: str) -> None:
    lock = LOCKS[name]
    built_with = {canonicalize_name(each.name) for each in build_requirements()}
    for package, locked in lock.items():
        assert locked.needed_by or package in built_with, f"nothing needs {package}: {AGAIN}"
        assert locked.needed_by - {""} <= lock.keys(), f"what needs {package} is not locked: {AGAIN}"


@pytest.mark.parametrize("name", SETS)
def test_a_lock_gives_hashes_of_each_package_and_names_no_index(name: str) -> None:
    assert "://" not in SETS[name].read_text()
    for package, locked in LOCKS[name].items():
        assert locked.hashes, package
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in locked.hashes), package


@pytest.mark.parametrize("name", sorted(SETS.keys() - {"dev"}))
def test_a_package_of_several_locks_has_the_same_hashes(name: str) -> None:
    for package in LOCKS[name].keys() & LOCKS["dev"].keys():
        assert LOCKS[name][package].hashes == LOCKS["dev"][package].hashes, f"{package}: {AGAIN}"
