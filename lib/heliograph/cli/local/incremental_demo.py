"""``heliograph demo incremental``: a model improves from what it was unsure of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heliograph.cli.local.incremental_screen import IncrementalLines, IncrementalScreen
    from heliograph.local.demo.incremental.demo import Outcome
    from heliograph.local.demo.incremental.screen import Accuracies


def incremental_demo(edges: int, seed: int, out: Path, plain: bool) -> None:
    """Run the demo, and say what came of it. Raise HeliographError where a goal was not met."""
    from heliograph.cli.local.clusters import until_signalled
    from heliograph.core.errors import HeliographError
    from heliograph.core.private_files import private_files
    from heliograph.core.world import World
    from heliograph.local.demo.incremental.demo import Options, run
    from heliograph.local.run_scope import scratch

    with private_files(), scratch() as directory:
        out.mkdir(parents=True, exist_ok=True)
        try:
            with _screen(plain) as display:
                outcome = until_signalled(lambda: run(Options(directory, edges, seed), display, World()))
        finally:
            _keep_log(directory / "log.txt", out / "log.txt")
    _say(outcome)
    if outcome.shortcomings:
        raise HeliographError(f"{'; '.join(outcome.shortcomings)}. See {out / 'log.txt'}")


def _say(outcome: Outcome) -> None:
    from heliograph.cli.printing.output import say

    share = outcome.labelled / max(1, outcome.seen)
    say(f"labelled: {outcome.labelled} of {outcome.seen} images ({share:.0%}); refused by the gate: {outcome.refused}")
    say(f"{'TEST IMAGES RIGHT':<36}{'0-4':>7}{'5-9':>7}{'TURNED':>8}{'ALL':>7}")
    rows = {
        "the first version": outcome.first,
        "what serves now": outcome.last,
        "the same labels without replay": outcome.forgetful,
    }
    for title, found in rows.items():
        if found is not None:
            say(f"{title:<36}{_shares(found)}")
    say("next: examples/incremental_numpy.py, docs/incremental-learning.md")


def _shares(found: Accuracies) -> str:
    return f"{found.known:>7.3f}{found.new:>7.3f}{found.turned:>8.3f}{found.overall:>7.3f}"


def _keep_log(file: Path, target: Path) -> None:
    import shutil

    if file.exists():
        shutil.copyfile(file, target)
        target.chmod(0o600)  # also where an earlier release has left one


def _screen(plain: bool) -> IncrementalLines | IncrementalScreen:
    import sys

    from heliograph.cli.local.incremental_screen import IncrementalLines, IncrementalScreen

    return IncrementalLines() if plain or not sys.stdout.isatty() else IncrementalScreen()
