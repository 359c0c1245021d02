"""An oracle: a file of known labels, by the SHA-256 of the sample.

A csv with the columns ``task`` and ``label``, or JSON lines with these keys. ``label`` is a class, a number or a text;
several classes are a list in JSON, and separated by ``|`` in a csv.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heliograph.bus.contract.payloads import Result
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.names import is_digest
from heliograph.labelling.results import check_result


def read_oracle(file: Path, schema: LabelSchema) -> dict[str, Result]:
    """Return the label of each sample in a file.

    Raises:
        HeliographError: if the file cannot be read.
        Refused: naming file and line, if a line is none of these, a label is none of the schema's, or a sample has two
            labels.
    """
    found: dict[str, Result] = {}
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = _json_rows(lines) if file.suffix in (".jsonl", ".json", ".ndjson") else _csv_rows(lines)
            for number, (task, label) in rows:
                place = f"{file}, line {number}"
                if not is_digest(task):
                    raise Refused("invalid", topic=place, field="task", expected="the SHA-256 of a sample", got=task)
                result = Result(type=schema.type, value=_value(label, schema))
                try:
                    check_result(result, schema, "label")
                except Refused as error:
                    raise error.about(place) from None
                if found.setdefault(task, result) != result:
                    raise Refused("contradiction", topic=place, field="label", expected="one label of a sample",
                                  got=label)  # fmt: skip
    except OSError as error:
        raise HeliographError(f"cannot read {file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise Refused("invalid", topic=str(file), expected="text in UTF-8", got="other bytes") from None
    if not found:
        raise Refused("empty", topic=str(file), expected="a line for each sample: task and label", got="none")
    return found


def _csv_rows(lines: Any) -> Iterator[tuple[int, tuple[Any, Any]]]:
    reader = csv.DictReader(lines)
    names = reader.fieldnames or ()
    if "task" not in names or "label" not in names:
        raise Refused("invalid", topic=getattr(lines, "name", ""), field="first line", expected="the columns task and "
                      "label", got=", ".join(names) or "nothing")  # fmt: skip
    try:
        for row in reader:
            yield reader.line_num, (row["task"], row["label"])
    except csv.Error as error:
        raise Refused("invalid", topic=f"{lines.name}, line {reader.line_num}", expected="a csv", got=error) from None


def _json_rows(lines: Any) -> Iterator[tuple[int, tuple[Any, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            tree = json.loads(line)
        except (ValueError, RecursionError):
            tree = None
        if not isinstance(tree, dict):
            raise Refused("not-json", topic=f"{lines.name}, line {number}", expected='{"task": …, "label": …}',
                          got=line.strip())  # fmt: skip
        yield number, (tree.get("task"), tree.get("label"))


def _value(label: Any, schema: LabelSchema) -> Any:
    if schema.type == "choices" and isinstance(label, str):
        return [each for each in label.split("|") if each]
    if schema.type == "number" and isinstance(label, str):
        try:
            return float(label)
        except ValueError:
            return label
    if isinstance(label, (str, int, float, bool)) or label is None:
        return label if schema.type in ("number", "text") or isinstance(label, str) else str(label)
    return label if isinstance(label, list) and all(isinstance(each, str) for each in label) else str(label)
