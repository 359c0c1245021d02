"""The demo of incremental learning: what its screen shows, and a whole run."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from heliograph.cli.local.incremental_screen import IncrementalScreen
from heliograph.core.world import World
from heliograph.local.demo.incremental.demo import Options, run
from heliograph.local.demo.incremental.screen import Accuracies, RoundRow

BEFORE, AFTER = Accuracies(0.99, 0.0, 0.1), Accuracies(0.98, 0.9, 0.12)


def _row(round: int, decision: str = "deployed", version: int | None = 1) -> RoundRow:
    return RoundRow(round, "new digits", 80, 300, decision, version, BEFORE, AFTER)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 60)])
def test_the_screen_fits_the_terminal(width: int, height: int) -> None:
    screen = IncrementalScreen()
    screen.stream("new digits", 300, 1750, 80, 250)
    screen.step(9, "training", 12)
    screen.serving({"edge-1": "version 3", "edge-2": "version 3"})
    for round in range(1, 40):
        screen.ended(_row(round, "refused" if round == 39 else "deployed", None if round == 39 else round))
        screen.note(f"round {round} " + "has ended " * 20, good=round % 2 == 0)
    console = Console(width=width, height=height, force_terminal=False)
    with console.capture() as shown:
        console.print(screen.render(console))
    lines = shown.get().splitlines()
    assert len(lines) < height
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    assert "incremental learning" in text
    if width >= 100:
        assert "300 of 1750 images" in text and "99.0 → 98.0" in text and "✗ refused -" in text
        assert "edge-1 version 3" in text


class _Recorded:
    """A display that keeps what it is shown."""

    def __init__(self) -> None:
        self.rows: list[RoundRow] = []
        self.notes: list[str] = []

    def doing(self, what: str) -> None: ...

    def stream(self, part: str, seen: int, total: int, labelled: int, right: int) -> None: ...

    def step(self, round: int, step: str, waiting: int) -> None: ...

    def serving(self, versions: object) -> None: ...

    def ended(self, row: RoundRow) -> None:
        self.rows.append(row)

    def note(self, line: str, good: bool = True) -> None:
        self.notes.append(line)


@pytest.mark.long
async def test_a_model_learns_what_it_was_unsure_of(tmp_path: Path) -> None:
    """A whole run: a candidate that is worse is refused, a version is rolled back, nothing is answered by an error."""
    display = _Recorded()
    outcome = await run(Options(tmp_path, edges=1), display, World())
    decisions = [row.decision for row in display.rows]
    assert decisions.count("refused") >= 1 and decisions.count("deployed") >= 3
    assert outcome.rolled_back and outcome.errors == 0
    assert outcome.last is not None and outcome.first is not None and outcome.forgetful is not None
    assert outcome.last.new > outcome.first.new and outcome.last.turned > outcome.first.turned
    assert any("heliograph rollback models/digits" in line for line in display.notes)
