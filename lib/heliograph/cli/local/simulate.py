"""``heliograph simulate``: a scenario, in virtual time or on real processes."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from heliograph.cli.usage import examples, misused

if TYPE_CHECKING:
    from heliograph.cli.printing.output import Ticker
    from heliograph.simulations.scenario.director import ScenarioRun
    from heliograph.simulations.scenario.expectations import ExpectationResult
    from heliograph.simulations.scenario.outcome import Outcome
    from heliograph.simulations.scenario.play import Progress

MISSED = 1
"""Exit code if an expectation does not hold."""
NARROWEST = 40


def register(app: typer.Typer) -> None:
    app.command(
        help="Run a scenario in virtual time. With --real, run it on real processes. Report the outcome.",
        epilog="Exit code: 0 all expectations hold, 1 one does not or the run failed, 2 not understood.\n\n"
        + examples("heliograph simulate flaky-links --report flaky.html"),
    )(simulate)


def simulate(
    scenario: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A file, or a built-in name; see --list.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="Seed. Default: the scenario's.")] = None,
    trace: Annotated[Path | None, typer.Option(metavar="OUT.mcap", help="Record every message.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="OUT.html", help="Write a page with charts.")] = None,
    real: Annotated[bool, typer.Option("--real", help="Use real brokers and processes in real time.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List the built-in scenarios.")] = False,
) -> int:
    if show:
        return _list()
    if not scenario:
        raise misused("FILE|NAME", expected="a scenario's file or its name; list them with --list", got="nothing")
    for option, target in (("--trace", trace), ("--report", report)):  # refuse before a long run
        if target is not None and not target.resolve().parent.is_dir():
            raise misused(option, expected="a file in a directory that exists", got=str(target))
    from heliograph.cli.local.clusters import until_signalled
    from heliograph.cli.printing.output import Ticker
    from heliograph.simulations.scenario import play
    from heliograph.simulations.scenario.expectations import check_expectations
    from heliograph.simulations.scenario.scenario_files import find_scenario, read_scenario

    found = read_scenario(find_scenario(scenario))
    _need_numpy()
    ticker = Ticker()
    request = play.RunRequest(found, found.seed if seed is None else seed, trace, _progress(ticker))
    gc.disable()
    try:
        outcome = until_signalled(lambda: play.play_real(request)) if real else play.play_virtual(request)
    finally:  # skip the collection of ten thousand agents, which would take a fifth of the run's time
        gc.freeze()
        gc.enable()
    expected = check_expectations(found.expect, outcome)
    ticker(f"{found.name}, seed {request.seed}:")  # replaces the progress line
    _show(outcome, expected)
    if report is not None:
        from heliograph.simulations.scenario.scenario_page import page

        title = f"{found.name}, seed {request.seed}"
        report.write_text(page(title, found.description, outcome, expected), encoding="utf-8")
        _say(f"the report: {report}")
    if trace is not None:
        _say(f"the trace: {trace}")
    missed = sum(not each.holds for each in expected)
    if missed:
        print(f"error: {missed} of {len(expected)} expectations do not hold", file=sys.stderr)
    return MISSED if missed else 0


def _list() -> int:
    from heliograph.cli.printing.output import show_table
    from heliograph.simulations.scenario.quantities import duration_text
    from heliograph.simulations.scenario.scenario_files import read_scenario, shipped

    rows: list[list[str | list[str]]] = []
    for name, file in shipped().items():
        scenario = read_scenario(file)
        rows.append([name, str(len(scenario.edge_names)), duration_text(scenario.duration), scenario.description])
    show_table(["NAME", "EDGES", "AT MOST", "WHAT"], rows)
    return 0


def _show(outcome: Outcome, expected: list[ExpectationResult]) -> None:
    import shutil

    from heliograph.cli.printing.output import paint, printable
    from heliograph.simulations.scenario.outcome_text import summary

    width = max(NARROWEST, shutil.get_terminal_size().columns)
    for line in summary(outcome, expected, width, plotted=sys.stdout.isatty()):
        style = {"✓": "green", "✗": "red"}.get(line[:1], "")
        _say(paint(printable(line).rstrip(), style))


def _progress(ticker: Ticker) -> Progress:
    """Return the progress callback: a replaced line in a terminal, nothing for programs."""
    from heliograph.cli.printing.output import Passing
    from heliograph.simulations.scenario.quantities import duration_text

    if not sys.stdout.isatty():
        return lambda run: None

    def show(run: ScenarioRun) -> None:
        share = min(1.0, run.seconds / run.scenario.duration)
        words = [f"{duration_text(run.seconds)} of at most {duration_text(run.scenario.duration)}",
                 f"{run.observer.rounds()} rounds"]  # fmt: skip
        if (last := run.observer.accuracy()) is not None:
            words.append(f"{last[0]} accuracy {last[1]:.3f}")
        if not run.ready:
            words = ["the cluster starts"]
        ticker(Passing(f"{'━' * round(20 * share)}{'╌' * (20 - round(20 * share))} {' · '.join(words)}"))

    return show


def _need_numpy() -> None:
    import importlib.util

    from heliograph.core.errors import HeliographError

    if importlib.util.find_spec("numpy") is None:
        raise HeliographError("simulations need NumPy: pip install 'heliograph[train]'")


def _say(line: str) -> None:
    from heliograph.cli.printing.output import say

    say(line)
