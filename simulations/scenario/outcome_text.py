"""The outcome of a run as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from heliograph.simulations.scenario.expectations import ExpectationResult
from heliograph.simulations.scenario.outcome import JobOutcome, Outcome
from heliograph.simulations.scenario.quantities import duration_text
from heliograph.simulations.scenario.scenario_page import jobs_by_creation, size_text

BARS = "▁▂▃▄▅▆▇█"
WIDEST = 100
MOST_JOBS = 12
"""Number of jobs with lines of their own."""


def summary(
    outcome: Outcome, expected: Sequence[ExpectationResult] = (), width: int = 80, plotted: bool = True
) -> list[str]:
    """Return lines of at most ``width`` characters, unless a name is longer: accuracy curves, jobs, edges and links,
    and the expectations."""
    width = min(width, WIDEST)
    jobs = jobs_by_creation(outcome)
    lines = [*_curves(jobs, width)] if plotted else []
    for job in jobs[:MOST_JOBS]:
        lines += _job(job, width)
    if len(jobs) > MOST_JOBS:
        lines.append(f"and {len(jobs) - MOST_JOBS} more jobs")
    edges = outcome.edge_values()
    offline = "none was offline"
    if edges["outages"]:
        offline = f"offline {edges['outages']:g} times, {duration_text(edges['outage_seconds'])} in total"
    lines.append(f"edges {len(outcome.edges)}: {size_text(edges['bytes_up'])} up, "
                 f"{size_text(edges['bytes_down'])} down; {offline}")  # fmt: skip
    lines.append(f"run {duration_text(outcome.duration)} on its own clock, {outcome.messages} messages")
    if outcome.unreadable:
        lines.append(f"{outcome.unreadable} messages could not be read")
    return lines + [f"{'✓' if each.holds else '✗'} {each}" for each in expected]


def _job(job: JobOutcome, width: int) -> Iterator[str]:
    values = job.values()
    planned = f" of {job.planned}" if job.planned else ""
    words = [f"job {job.name}: {str(values['phase']).lower()}", f"{len(job.rounds)}{planned} rounds in "
             f"{duration_text(float(values['duration']))}"]  # fmt: skip
    if "accuracy" in values:
        words.append(f"accuracy {values['accuracy']:.4f}")
    yield ", ".join(words)
    closed = " · ".join(f"{values[why]} {why}" for why in ("complete", "quorum", "deadline") if values[why])
    share = f"{values['participation']:.0%} of the participants asked, " if "participation" in values else ""
    yield f"  updates: {values['counted']} counted, {share}{values['refused']} refused, {values['late']} late"
    if job.rounds:
        room = max(10, width - 14)
        yield f"  counted     {_bars([float(each.counted) for each in job.rounds], room)}"
        yield f"  closed by   {closed}"
    if values["late"]:
        by = ", ".join(f"{number} by {behind}" for behind, number in sorted(job.staleness.items())[:8])
        yield f"  late by rounds: {by}"
    if values["lost"] or values["counted_twice"]:
        yield f"  lost {values['lost']}, counted twice {values['counted_twice']}"


def _bars(values: Sequence[float], room: int) -> str:
    """Return a bar for each value, from 0 to the maximum; without room for all, a bar for the mean of neighbours."""
    if len(values) > room:
        step = len(values) / room
        cut = [values[int(at * step) : max(int(at * step) + 1, int((at + 1) * step))] for at in range(room)]
        values = [sum(each) / len(each) for each in cut]
    most = max(values) or 1.0
    return "".join(BARS[round(value / most * (len(BARS) - 1))] for value in values)


def _curves(jobs: Sequence[JobOutcome], width: int) -> list[str]:
    """Return a plot of all jobs' accuracy over time; nothing without evaluations or without plotext."""
    points = [[(each.measured or each.closed, each.evaluation["accuracy"]) for each in job.evaluations
               if "accuracy" in each.evaluation] for job in jobs]  # fmt: skip
    points = [each for each in points if len(each) > 1]
    if not points or width < 40:
        return []
    try:
        from plotext import figure, uncolorize
    except ModuleNotFoundError:
        return []
    end = max(at for each in points for at, _ in each)
    unit, name = next((size, name) for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))
                      if end >= 2 * size or size == 1)  # fmt: skip
    figure.clear()
    figure.plot_size(width, 15)
    for each in points:
        curve = figure.signal([at / unit for at, _ in each], [value for _, value in each], marker="braille")
        figure.draw(curve.lines())
    figure.title(f"accuracy of the global model over {name}")
    return str(uncolorize(str(figure.build()))).rstrip("\n").split("\n")
