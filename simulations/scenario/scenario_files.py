"""Scenarios from files, and those that ship, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from heliograph.bus.contract.resources import refusal_of
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.names import is_label
from heliograph.core.tree_file import known_fields, parse, read_text, refusal_at_line
from heliograph.simulations import scenarios
from heliograph.simulations.scenario.consistency import check
from heliograph.simulations.scenario.document import Scenario
from heliograph.simulations.scenario.task import federated_task

MOST_BYTES = 256 * 1024
"""Of a scenario's file."""


def shipped() -> dict[str, Path]:
    """Name to file of the scenarios that come with the package."""
    directory = Path(next(iter(scenarios.__path__)))
    return {file.stem: file for file in sorted(directory.glob("*.yaml"))}


def find(name: str) -> Path:
    """The file of that path, or the scenario of that name that ships. Raises HeliographError where there is neither."""
    if (file := Path(name)).is_file():
        return file
    known = shipped()
    if name in known:
        return known[name]
    if not is_label(name):
        raise HeliographError(f"{name}: there is no such file")
    near = difflib.get_close_matches(name, known, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise HeliographError(f"{name}: there is no such file, and no scenario of that name; {meant}there are "
                          f"{', '.join(known)}")  # fmt: skip


def read_scenario(file: Path) -> Scenario:
    """Raises HeliographError naming file, line, field, what was expected and what came."""
    name = str(file)
    documents = list(parse(read_text(name, MOST_BYTES), name))
    if len(documents) != 1:
        got = f"{len(documents)} documents" if documents else "an empty file"
        raise Refused("invalid", topic=name, expected="one scenario", got=got)
    tree, node = documents[0]
    try:
        return parse_scenario(tree)
    except Refused as error:
        raise _told(error, tree, name, node) from None


def parse_scenario(tree: object) -> Scenario:
    """The scenario that a parsed document describes. Raises Refused naming the first wrong field."""
    if not isinstance(tree, Mapping):
        raise Refused("invalid", expected="a mapping with name, edges, jobs and so on", got=tree)
    try:
        scenario = Scenario.model_validate(tree)
    except ValidationError as error:
        raise refusal_of(error) from None
    check(scenario)
    for number, job in enumerate(scenario.jobs):  # what only the resource's own model knows
        try:
            federated_task(job, scenario.edge_names)
        except Refused as error:
            raise Refused(error.code, field=f"jobs[{number}]", expected=error.expected, got=error.got) from None
    return scenario


def _told(error: Refused, tree: Any, name: str, node: yaml.Node) -> Refused:
    if error.code == "unknown-field":
        try:
            beside = ", ".join(known_fields(Scenario, error.field))
            error.hint = f"There are {beside}. {error.hint}".rstrip()
        except (KeyError, ValueError):  # it is no field of the schema's that was refused
            pass
    return refusal_at_line(error, name, node)
