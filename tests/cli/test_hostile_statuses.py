"""Documents of any shape and with any text: every command shows them, and commands no terminal."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import hypothesis
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.registry import declared
from heliograph.cli.presentation import UNREADABLE, presentation_of, table
from heliograph.cli.printing.documents import as_yaml
from heliograph.cli.printing.output import say, show_table
from heliograph.core.errors import HeliographError
from heliograph.core.text import harmless
from heliograph.simulations.input_fuzz.mutate import mutate_tree
from heliograph.simulations.input_fuzz.trees import encode_tree
from heliograph.simulations.input_fuzz.valid_trees import draw_valid

COMMANDS = "\x1b[2J\x1b]0;title\x07\x9b31m\u202eabc\u2066\x08\r"
ODD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def _document(rng: random.Random, plural: str) -> Any:
    kind = declared().features[plural].kind
    tree = mutate_tree(rng, draw_valid(rng, kind), draw_valid(rng, kind))
    try:
        return json.loads(encode_tree(tree, "json"))
    except (ValueError, RecursionError):
        return {"metadata": {"name": "x"}}


@hypothesis.settings(
    derandomize=True, max_examples=50, phases=[hypothesis.Phase.generate],
    suppress_health_check=[*hypothesis.HealthCheck],
)  # fmt: skip
@given(st.randoms(), st.sampled_from(sorted(declared().features)))
def test_a_table_and_a_watch_show_documents_of_any_shape(rng: random.Random, plural: str) -> None:
    documents = [each for each in (_document(rng, plural) for _ in range(3)) if isinstance(each, dict)]
    columns, rows = table(plural, documents, 1_800_000_000.0)
    assert len(rows) == len(documents) and all(len(row) == len(columns) for row in rows)
    show_table(columns, rows)
    progress = presentation_of(plural).progress(plural[:-1], "x", ("Succeeded",))
    for each in documents:
        try:
            for line in progress.lines(each):
                say(line)
        except (HeliographError, *UNREADABLE):
            continue  # the command says so, and waits for the next one


def test_an_unreadable_document_is_a_row_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"metadata": {"name": "bad"}, "status": {"conditions": 7, "rounds": "x"}, "spec": []}
    columns, rows = table("jobs", [bad, {"metadata": {}}], 0.0)
    show_table(columns, rows)
    assert "bad" in capsys.readouterr().out and all(str(row[-1]).startswith("unreadable") for row in rows)


def test_no_output_commands_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"metadata": {"name": "a"}, "status": {"message": COMMANDS}}
    for text in (COMMANDS, as_yaml([document])):
        say(text)
    assert ODD.findall(capsys.readouterr().out) == []
    assert yaml.safe_load(as_yaml([document])) == document
    assert harmless("a\tb\nc é 漢 \x1b[31m", coloured=True) == "a\tb\nc é 漢 \x1b[31m"
    assert harmless("\x1b[2J\u202e") == "\\x1b[2J\\u202e"
