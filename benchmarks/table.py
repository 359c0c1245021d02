"""The report as a table, on the terminal (100 columns) and as Markdown, from the same cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.declaration import OURS, Benchmark, Metric
from benchmarks.report import Report, Row

HEADINGS = ("figure", "median", "min … max", "target", "before", "change")


def show(report: Report, console: Console) -> None:
    """Print the report of a run."""
    console.print(Group(*_parts(report, console.width)))


def catalogue(chosen: Sequence[Benchmark], console: Console) -> None:
    """Print the benchmarks with their groups, their numbers of runs, their figures and their targets."""
    rows: list[tuple[str, ...]] = []
    for each in chosen:
        if each.peer:
            rows.append((f"  the same by {each.by}", "", "", str(each.repeats), each.name, each.group))
            continue
        for metric in each.metrics:
            rows.append((metric.title, _target(metric), metric.unit, str(each.repeats), each.name, each.group))
    console.print(_table(("figure", "target", "unit", "runs", "benchmark", "group"), rows, console.width))


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    lines = ["# Benchmarks", "", _about(report), "", *_markdown_table(HEADINGS, map(_cells, _own(report)))]
    heads, rows = _side_by_side(report)
    if rows:
        joined = [tuple("<br>".join(filter(None, cell)) for cell in cells) for cells in rows]
        lines += ["", "## Side by side", "", *_markdown_table(heads, joined)]
    notes = [f"- {line}" for line in _notes(report)]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def number(value: float) -> str:
    """Format a number with few digits: 61.9k, 2 506, 26.5, 0.0042."""
    if abs(value) >= 9999.5:
        return f"{value / 1e6:.3g}M" if abs(value) >= 999_500 else f"{value / 1000:.3g}k"
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 999.5 else f"{value:.3g}"


def _parts(report: Report, width: int) -> Iterable[RenderableType]:
    own = _own(report)
    colours = [{2: "dim", 3: "red" if row.figure.missed else "green", 5: _colour(row)} for row in own]
    yield _table(HEADINGS, [_cells(row) for row in own], width, colours)
    heads, side = _side_by_side(report)
    if side:
        yield Text("\nside by side: median, times ours, and below them min … max\n", "bold")
        yield _table(heads, [tuple("\n".join(cell) for cell in cells) for cells in side], width)
    yield Text(f"\n{_about(report)}", "dim")
    for line in _notes(report):
        yield Text(line, "red" if line.startswith(("missed", "worse", "failed")) else "yellow")


def _table(
    headings: Sequence[str], rows: Sequence[tuple[str, ...]], width: int, colours: Sequence[Mapping[int, str]] = ()
) -> Table:
    """Build a table. On a narrow terminal the first column shrinks and the figures stay complete."""
    widths = [max(len(line) for row in (headings, *rows) for line in row[place].split("\n"))
              for place in range(len(headings))]  # fmt: skip
    widths[0] = max(12, min(widths[0], width - sum(widths[1:]) - 2 * (len(widths) - 1)))
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for heading, wide in zip(headings, widths, strict=True):
        table.add_column(heading, justify="right" if table.columns else "left", no_wrap=True, width=wide)
    for number, row in enumerate(rows):
        styles = colours[number] if colours else {}
        table.add_row(*(Text(cell, styles.get(place, "")) for place, cell in enumerate(row)))
    return table


def _own(report: Report) -> list[Row]:
    """Return our own rows; the peers' rows are in the side-by-side table."""
    return [row for row in report.rows if row.figure.by == OURS]


def _cells(row: Row) -> tuple[str, ...]:
    figure, judgement = row.figure, row.judgement
    metric = figure.metric
    target = _target(metric)
    if target:
        target += " ✗" if figure.missed else " ✓"
    change = "" if judgement.change is None else f"{100 * judgement.change:+.0f} %"
    change += {"worse": " ✗", "better": " ✓"}.get(judgement.verdict, "")
    return (
        metric.title,
        f"{number(figure.value)} {metric.unit}",
        f"{number(figure.low)} … {number(figure.high)}",
        target,
        "" if judgement.baseline is None else number(judgement.baseline),
        change,
    )


def _target(metric: Metric) -> str:
    return "" if metric.target is None else f"{'≥' if metric.better == 'higher' else '≤'} {number(metric.target)}"


def _side_by_side(report: Report) -> tuple[tuple[str, ...], list[list[tuple[str, str]]]]:
    """Return a row for each question and a column for each contestant, with its median above its spread."""
    questions = report.questions()
    names = list(dict.fromkeys(name for answers in questions.values() for name in answers))
    rows = []
    for question, answers in questions.items():
        ours = answers[OURS].figure.value if OURS in answers else 0.0
        cells = [(question, next(iter(answers.values())).figure.metric.unit)]
        for name in names:
            if name not in answers:
                cells.append(("", ""))
                continue
            each = answers[name].figure
            times = f" ×{number(float(f'{each.value / ours:.2g}'))}" if ours and name != OURS else ""
            cells.append((number(each.value) + times, f"{number(each.low)}…{number(each.high)}"))
        rows.append(cells)
    return ("", *names), rows


def _about(report: Report) -> str:
    against = report.compared or "the kept runs on comparable machines"
    return f"{report.run}; {report.run.machine}; compared with {against}"


def _notes(report: Report) -> list[str]:
    lines = [row.missed for row in report.missed]
    lines += [f"worse: {row.figure.metric.title}, {_cells(row)[-1]}" for row in report.worse]
    lines += [f"failed: {name}: {why}" for name, why in report.failed.items()]
    return lines + [f"skipped: {name}: {why}" for name, why in report.skipped.items()]


def _colour(row: Row) -> str:
    return {"worse": "red", "better": "green"}.get(row.judgement.verdict, "dim")


def _markdown_table(headings: Iterable[str], rows: Iterable[tuple[str, ...]]) -> list[str]:
    heads = list(headings)
    ruler = ["---", *["---:"] * (len(heads) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (heads, ruler, *rows)]
