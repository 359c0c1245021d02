"""The printed report: table, Markdown, page and sheet."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks import table
from benchmarks.catalog import BENCHMARKS
from benchmarks.charts import ticks
from benchmarks.declaration import Metric
from benchmarks.figure import Figure
from benchmarks.history import run_of
from benchmarks.html_page import page, sheet
from benchmarks.machine import Machine
from benchmarks.report import Report, report

HERE = Machine(cores=2, cpu="<CPU & more>", kernel="6.1.0", python="3.11.7")


def full_report(level: float = 100.0) -> Report:
    """Return a report with every figure that the catalog declares."""
    found = [
        Figure(each.name, metric, level, 0.9 * level, 1.1 * level, 3, each.group, each.by)
        for each in BENCHMARKS.values()
        for metric in each.metrics
    ]
    date = datetime(2026, 1, 1, tzinfo=UTC)
    kept = [run_of([Figure("up", found[0].metric, 1, 1, 1, 3)], HERE, "rev", date) for _ in range(4)]
    return report(run_of(found, HERE, "rev", date), found, kept, None, {"peer": "no <network>"}, {"bad": "broke"})


def printed(width: int) -> list[str]:
    out = io.StringIO()
    table.show(full_report(12345.678), Console(file=out, width=width))
    return out.getvalue().splitlines()


def test_the_table_fits_100_columns_with_every_figure_whole() -> None:
    lines = printed(100)
    assert max(map(len, lines)) <= 100
    assert not [line for line in lines if re.search(r"[^ 0-9kM]…", line)], "a cell is cut off"
    text = "\n".join(lines)
    assert "failed: bad: broke" in text
    assert "skipped: peer: no <network>" in text
    assert "worse: start of a cluster with three edges" in text


def test_on_a_narrow_terminal_the_titles_shrink() -> None:
    assert "12.3k ms" in "\n".join(printed(80))


def test_the_list_names_every_benchmark() -> None:
    out = io.StringIO()
    table.catalogue(list(BENCHMARKS.values()), Console(file=out, width=100))
    assert all(name in out.getvalue() for name in BENCHMARKS)


def test_markdown_has_a_row_for_each_of_our_figures_and_peers_side_by_side() -> None:
    text = table.markdown(full_report())
    own = sum(len(each.metrics) for each in BENCHMARKS.values() if not each.peer)
    assert text.split("## Side by side")[0].count("\n| ") == own + 2
    assert "| Heliograph | Flower | Flower streams | NVFlare | OpenFL |" in text


@pytest.mark.parametrize("level", [0.0, 1e-9, 1.0, 12345.678, -1.0])
def test_page_and_sheet_are_complete_and_load_nothing(level: float) -> None:
    html, svg = page(full_report(level)), sheet(full_report(level))
    charts = ElementTree.fromstring(svg)
    assert len(charts.findall("{http://www.w3.org/2000/svg}svg")) == html.count("<svg ")
    for text in (html, svg):
        assert "nan" not in text
        links = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "http" not in links and "src=" not in links
    assert "&lt;CPU &amp; more&gt;" in html and "no &lt;network&gt;" in html


def test_a_question_that_nobody_else_answers_is_not_side_by_side() -> None:
    metric = Metric("lap", "a lap", "ms", question="lap?")
    alone = report(full_report().run, [Figure("b", metric, 1, 1, 1, 1)], [])
    assert alone.questions() == {}


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=10))
def test_ticks_enclose_the_values_with_few_lines(values: list[float]) -> None:
    low, high, step = ticks(values)
    slack = 1e-6 * max(abs(low), abs(high), 1e-9)
    assert low <= min(values) + slack and high >= max(values) - slack
    assert 1 <= round((high - low) / step) <= 7


@pytest.mark.parametrize(("value", "text"), [
    (0.00421, "0.00421"), (26.51, "26.5"), (999.4, "999"), (999.6, "1 000"), (2506.8, "2 507"), (9999, "9 999"),
    (61_900, "61.9k"), (1_234_567, "1.23M"), (-3, "-3"), (0, "0"),
])  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert table.number(value) == text


@pytest.mark.parametrize("known", ["", "the parts wait 4 s"])
def test_a_miss_that_is_known_is_said_with_its_cause_and_fails_nothing(known: str) -> None:
    figure = Figure("pause", Metric("pause", "a pause", "s", 3, known=known), 7, 6, 8, 3)
    date = datetime(2026, 1, 1, tzinfo=UTC)
    found = report(run_of([figure], HERE, "rev", date), [figure], [])
    assert found.failing == (not known)
    assert table.markdown(found).count(f"missed: a pause{f', as known: {known}' if known else ''}") == 1
