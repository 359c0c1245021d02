"""Reading scenarios from files, and finding the shipped ones by name."""

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
from heliograph.simulations.scenario.job_document import federated_task

MOST_BYTES = 256 * 1024
"""Largest size of a scenario's file."""


def shipped() -> dict[str, Path]:
    """Return the files of the scenarios in the package, by name."""
    directory = Path(next(iter(scenarios.__path__)))
    return {file.stem: file for file in sorted(directory.glob("*.yaml"))}


def find_scenario(name: str) -> Path:
    """Return the file at a path, or the shipped scenario of that name. Raises HeliographError if there is neither."""
    if (file := Path(name)).is_file():
        return file
    known = shipped()
    if name in known:
        return known[name]
    if not is_label(name):
        raise HeliographError(f"{name}: there is no such file")
    near = difflib.get_close_matches(name, known, 1)
    suggestion = f"did you mean {near[0]}? " if near else ""
    raise HeliographError(f"{name}: there is no such file, and no scenario of that name; {suggestion}"
                          f"the shipped ones are {', '.join(known)}")  # fmt: skip


def read_scenario(file: Path) -> Scenario:
    """Read a scenario. Raises HeliographError, which names file, line, field, the expected value and the actual one."""
    name = str(file)
    documents = list(parse(read_text(name, MOST_BYTES), name))
    if len(documents) != 1:
        got = f"{len(documents)} documents" if documents else "an empty file"
        raise Refused("invalid", topic=name, expected="one scenario", got=got)
    tree, node = documents[0]
    try:
        return parse_scenario(tree)
    except Refused as error:
        raise _with_location(error, tree, name, node) from None


def parse_scenario(tree: object) -> Scenario:
    """Return the scenario of a parsed document. Raises Refused, which names the first wrong field."""
    if not isinstance(tree, Mapping):
        raise Refused("invalid", expected="a mapping with name, edges, jobs and so on", got=tree)
    try:
        scenario = Scenario.model_validate(tree)
    except ValidationError as error:
        raise refusal_of(error) from None
    check(scenario)
    for number, job in enumerate(scenario.jobs):  # the resource's own model has rules of its own
        try:
            federated_task(job, scenario.edge_names)
        except Refused as error:
            raise Refused(error.code, field=f"jobs[{number}]", expected=error.expected, got=error.got) from None
    return scenario


def _with_location(error: Refused, tree: Any, name: str, node: yaml.Node) -> Refused:
    if error.code == "unknown-field":
        try:
            beside = ", ".join(known_fields(Scenario, error.field))
            error.hint = f"There are {beside}. {error.hint}".rstrip()
        except (KeyError, ValueError):  # the refused field is not one of the schema's
            pass
    return refusal_at_line(error, name, node)
