"""What the screen shows of a run, in terminals of the usual size and with as many edges as people have."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest
from rich.console import Console

from heliograph.cli.local.curves import plot
from heliograph.cli.local.lines import Lines
from heliograph.cli.local.run import screen as run_screen
from heliograph.cli.local.screen import Screen, duration
from heliograph.cli.presentation import table
from heliograph.cli.printing.output import show_table


def _document(edges: list[str], round: int, **status: Any) -> dict[str, Any]:
    records = [{"round": n, "counted": len(edges), "evaluation": {"accuracy": 0.5 + n / 50}} for n in range(1, round)]
    return {
        "metadata": {"name": "digits"},
        "spec": {"rounds": 10},
        "status": {"phase": "Running", "round": round, "participants": edges, "rounds": records} | status,
    }


def _shown(screen: Screen, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(screen.render(console))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.fixture
def running() -> Any:
    """Return ``running(edges)``: the screen of a run in its fifth round, four minutes after its start."""

    def make(count: int) -> Screen:
        now = [0.0]
        screen = Screen(lambda: now[0])
        names = [f"edge-{number}" for number in range(1, count + 1)]
        screen.began("digits · FedAvg", dict.fromkeys(names, 57))
        now[0] = 240.0
        message = "edge-2: exit code 1: ValueError: " + "something that takes many words to say " * 9
        troubles = [{"type": "WorkersHealthy", "status": "False", "reason": "WorkerFails", "message": message}]
        screen.document(_document(names, 5, conditions=troubles, uncounted=names[-1:]))
        for name in names[: count // 2]:
            screen.uploaded(name, 5, 4_000_000)
        screen.link(names[-2], "offline")
        for number in range(9):
            screen.note(f"note {number} that is a little longer than the eighty columns that a terminal usually has")
        return screen

    return make


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (40, 10)])
@pytest.mark.parametrize("count", [3, 25, 100, 200])
def test_11_title_and_accuracy_never_scroll_away(running: Any, count: int, width: int, height: int) -> None:
    lines = _shown(running(count), width, height)
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("digits · FedAvg · round 5/10")
    if width >= 80:
        assert lines[0].endswith("accuracy ▁▃▆█ 0.580")
        assert lines[1].endswith(" 4:00, about 6:00 left")
    assert "edge-2: exit code 1: ValueError" in "".join(lines)


@pytest.mark.parametrize("count", [25, 100])
def test_troubled_edges_are_shown_first_and_the_others_counted(running: Any, count: int) -> None:
    lines = _shown(running(count), 80, 24)
    assert lines[2].split()[:3] == [f"edge-{count - 1}", "✂", "offline"]
    assert lines[3].split()[0] == f"edge-{count}"
    assert "never counted" in lines[3]
    rows = [line for line in lines if line.startswith("edge-")]
    rest = next(line for line in lines if line.startswith("and "))
    assert rest.startswith(f"and {count - len(rows)} more edges: ")


def test_edges_that_all_fit_keep_their_order(running: Any) -> None:
    rows = [line.split()[0] for line in _shown(running(6), 120, 40) if line.startswith("edge-") and "exit" not in line]
    assert rows == [f"edge-{number}" for number in range(1, 7)]


def test_a_finished_run_shows_how_long_it_took(running: Any) -> None:
    screen = running(3)
    names = ["edge-1", "edge-2", "edge-3"]
    screen.document(_document(names, 10, phase="Succeeded"))
    lines = _shown(screen, 80, 24)
    assert "succeeded" in lines[0]
    assert lines[1].startswith("━" * 40)
    assert lines[1].endswith(" 4:00")


def test_a_run_without_a_closed_round_promises_no_end() -> None:
    screen = Screen(lambda: 7.0)
    screen.doing("starting broker")
    assert _shown(screen, 80, 24) == ["heliograph", "starting broker …"]
    screen.began("digits", {"edge-1": 0})
    screen.document(_document(["edge-1"], 0))
    assert "left" not in _shown(screen, 80, 24)[1]


def test_printed_lines_name_their_edge_and_command_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().printed("edge-1", "loss \x1b[31m0.5\r")
    assert capsys.readouterr().out == "edge-1: loss  [31m0.5 \n"
    assert isinstance(run_screen(plain=False), Lines)  # the output of a test is no terminal


def test_a_plot_of_one_round_is_a_sentence() -> None:
    assert plot("accuracy", [0.91234]) == "accuracy after one round: 0.9123"
    assert plot("accuracy", []) == ""
    assert "accuracy over 2 rounds" in plot("accuracy", [0.1, 0.2])


def test_times_are_written_as_on_a_clock() -> None:
    assert [duration(seconds) for seconds in (0, 59.9, 61, 3600, 90_061)] == [
        "0:00",
        "0:59",
        "1:01",
        "1:00:00",
        "25:01:01",
    ]


def _plain(capsys: pytest.CaptureFixture[str]) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


EDGES = [
    ("cloud", {}, ["test"], ["keras 3.9.2", "numpy 2.3.1", "pytorch 2.8.0", "scikit-learn 1.7.2", "tensorflow 2.19.1"]),
    ("edge-1", {"region": "north", "site": "a"}, ["digits", "cats"], ["numpy 2.3.1", "scikit-learn 1.7.2"]),
    ("warehouse-camera-3", {"region": "north", "site": "plant-17"}, ["digits"], ["numpy 2.3.1", "scikit-learn 1.7.2"]),
]


@pytest.mark.parametrize("count", [2, 3])
def test_11_get_edges_fits_80_columns(
    count: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    documents = [
        {"metadata": {"name": name}, "spec": {"labels": labels},
         "status": {"online": True, "since": "2026-11-21T20:00:00Z", "datasets": data, "frameworks": frameworks}}
        for name, labels, data, frameworks in EDGES[:count]
    ]  # fmt: skip
    show_table(*table("edges", documents, 1_795_000_000.0))
    lines = _plain(capsys).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if not line.startswith((" ", "─", "NAME"))] == [
        name for name, *_ in EDGES[:count]
    ]
    if count == 2:  # whole words, as long as names are short
        assert lines[0].split() == ["NAME", "STATE", "SINCE", "DATASETS", "FRAMEWORKS", "WORKERS", "WAITING", "LABELS"]
        assert {"region=north,", "site=a", "scikit-learn"} <= set("\n".join(lines).split())


def test_columns_that_say_nothing_are_left_out_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[list[str | list[str]]] = [["a", "", "x"], ["b", "", ""]]
    show_table(["NAME", "LABELS", "NOTE"], rows)
    assert capsys.readouterr().out.splitlines() == ["NAME  LABELS  NOTE", "a     -       x", "b     -       -"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_table(["NAME", "LABELS", "NOTE"], rows)
    assert _plain(capsys).splitlines()[0].split() == ["NAME", "NOTE"]
