"""The file with what the pods of workers may be: TOML, whose names are those of ``PodSettings`` in camel case.

    images = ["registry.example.com/team/"]
    hostPaths = ["/srv/data"]
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from heliograph.coordinator.kubernetes.worker_job import PodSettings
from heliograph.core.errors import Refused
from heliograph.core.toml_file import read_toml

MAX_SIZE = 1 << 20


def read_pod_settings(file: Path) -> PodSettings:
    """Return the settings of a file. Raise Refused where it cannot be read, or has something that is no setting."""
    tree = read_toml(file, "a file with what the pods of workers may be", MAX_SIZE)
    known = {to_camel(each.name): each for each in fields(PodSettings)}
    values: dict[str, Any] = {}
    for name, value in tree.items():
        field = known.get(name)
        if field is None:
            raise Refused("invalid", topic=str(file), field=name, expected=f"one of {', '.join(known)}", got=name)
        default = field.default
        if isinstance(default, tuple) and isinstance(value, list) and all(isinstance(each, str) for each in value):
            values[field.name] = tuple(value)
        elif type(value) is type(default) and not isinstance(default, tuple):
            values[field.name] = value
        else:
            what = {int: "a number", str: "a text"}.get(type(default), "a list of texts")
            raise Refused("invalid", topic=str(file), field=name, expected=what, got=value)
    return PodSettings(**values)
