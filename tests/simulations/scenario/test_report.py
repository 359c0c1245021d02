"""The HTML page and the terminal's summary: complete, self-contained and small."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest

from heliograph.simulations.scenario.document import Expectation
from heliograph.simulations.scenario.expectations import check_expectations
from heliograph.simulations.scenario.observer import outcome_of
from heliograph.simulations.scenario.outcome_text import summary
from heliograph.simulations.scenario.scenario_page import page, size_text

EXPECTED = [Expectation(field="jobs.digits.accuracy", minimum=0.9), Expectation(field="edges.lost", equals=1)]


def test_the_page_has_every_section(played: Callable[..., Any]) -> None:
    outcome = outcome_of(played(jobs=("digits", "night-2")).messages)
    text = page("flaky <links>", "About & so on.", outcome, check_expectations(EXPECTED, outcome))
    for heading in ("Expectations: 1 of 2 do not hold", "Jobs", "Accuracy over rounds", "Accuracy over time",
                    "Participation", "Staleness", "Bytes per edge", "Outages"):  # fmt: skip
        assert f"<h2>{heading}</h2>" in text
    assert "flaky &lt;links&gt;" in text
    assert "field num_samples: expected a whole number" in text
    charts = re.findall(r"<svg viewBox=\"0 0 760.*?</svg>", text, re.DOTALL)
    assert len(charts) == 6
    for chart in charts:
        assert ET.fromstring(chart).find("title") is not None


def test_every_property_of_the_style_is_one_of_css(played: Callable[..., Any]) -> None:
    style = page("x", "", outcome_of(played().messages)).split("<style>")[1].split("</style>")[0]
    names = re.findall(r"[{;]\s*([\w-]+)\s*:", style)
    assert {"font-size", "color", "--ink"} <= set(names)
    assert [name for name in names if "_" in name] == []


def test_the_page_loads_nothing(played: Callable[..., Any]) -> None:
    text = page("x", "", outcome_of(played().messages))
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script", text)
    assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize("edges", [1, 400])
def test_of_many_edges_only_some_are_drawn(played: Callable[..., Any], edges: int) -> None:
    tape = played(edges=max(edges, 3), rounds=6)
    for number in range(edges):
        tape.edge(500 + number, f"edge-{number + 1}", False)
    text = page("x", "", outcome_of(tape.messages))
    assert len(text) < 150_000
    if edges > 100:
        assert re.search(r"\d+ of the 399 edges with outages, evenly chosen", text)


def test_a_run_without_messages_has_a_page_too() -> None:
    outcome = outcome_of([])
    assert "none was offline" in "\n".join(summary(outcome))
    assert "<h1>x</h1>" in page("x", "", outcome)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_summary_fits_the_terminal(played: Callable[..., Any], width: int) -> None:
    outcome = outcome_of(played(rounds=90).messages)
    lines = summary(outcome, check_expectations(EXPECTED, outcome), width)
    curves = [line for line in lines if "┤" in line or line.strip().startswith("counted")]
    assert curves
    assert max(map(len, curves)) <= min(width, 100)
    text = "\n".join(lines)
    assert "job digits: succeeded, 90 of 90 rounds" in text
    assert "✓ jobs.digits.accuracy: expected at least 0.9, got" in text
    assert "✗ edges.lost: expected 1, got 0" in text


def test_sizes() -> None:
    assert [size_text(each) for each in (0, 999, 1500, 2.5e6, 1e13)] == ["0 B", "999 B", "1.5 kB", "2.5 MB", "10 TB"]
