"""The outcome of a run as a self-contained HTML page, with its charts as inline SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from heliograph.simulations.scenario import svg_charts as charts
from heliograph.simulations.scenario.expectations import ExpectationResult
from heliograph.simulations.scenario.outcome import EdgeOutcome, JobOutcome, Outcome
from heliograph.simulations.scenario.quantities import duration_text
from heliograph.simulations.scenario.svg_charts import Frame, Row, Series, Stack

MOST_ROWS = 60
"""Largest number of edges whose outages are drawn."""
MOST_BARS = 60
"""Largest number of edges drawn as bars; for more edges a curve is drawn."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --rule: #d8dee4; --lane: #eef1f4; --paper: #fff;
  --good: #1a7f37; --bad: #b42318; --c0: #0a5cb8; --c1: #b45309; --c2: #0f766e; --c3: #7c3aed; --c4: #b42318;
  --c5: #8b949e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b1; --rule: #30363d; --lane: #1a2028;
  --paper: #0d1117; --good: #56d364; --bad: #ff8a75; --c0: #6cb0ff; --c1: #f0a860; --c2: #4fd1c5; --c3: #c4a7ff;
  --c4: #ff8a75; --c5: #6e7681; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 860px; padding: 0 1rem; }
h1 { margin-bottom: .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .25rem; } p { margin: .25rem 0; }
.soft, caption { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; } caption { text-align: left; }
th, td { border-bottom: 1px solid var(--rule); padding: .25rem .8rem .25rem 0; text-align: left; }
td.number, th { white-space: nowrap; }
td.number, th.number { text-align: right; }
.legend { color: var(--soft); font-size: 13px; } .legend span { margin-right: 1rem; white-space: nowrap; }
.legend svg { display: inline; height: 10px; margin: 0; width: 10px; }
"""


def page(title: str, about: str, outcome: Outcome, expected: Sequence[ExpectationResult] = ()) -> str:
    """Return the HTML document. Colours follow the reader's light or dark setting; each chart has a title.

    Args:
        about: one or two sentences below the title.
    """
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(about)}</p>" if about else "", _headline(outcome),
             *_expected(expected), *_jobs(outcome), *_accuracy(outcome), *_participation(outcome),
             *_staleness(outcome), *_bytes(outcome), *_outages(outcome)]  # fmt: skip
    body = "\n".join(part for part in parts if part)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}{charts.STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def size_text(number: float) -> str:
    """Format a number of bytes: ``1.5 kB``, ``100 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def jobs_by_creation(outcome: Outcome) -> list[JobOutcome]:
    """Return the jobs in the order of their creation."""
    return sorted(outcome.jobs.values(), key=lambda job: (job.created, job.name))


def _headline(outcome: Outcome) -> str:
    edges = outcome.edge_values()
    words = [f"{len(outcome.edges)} edges", f"{duration_text(outcome.duration)} on the run's own clock",
             f"{outcome.messages} messages",
             f"{size_text(edges['bytes_up'])} up and {size_text(edges['bytes_down'])} down"]  # fmt: skip
    if outcome.unreadable:
        words.append(f"{outcome.unreadable} unreadable messages")
    return f'<p class="soft">{escape(" · ".join(words))}</p>'


def _expected(expected: Sequence[ExpectationResult]) -> Iterator[str]:
    if not expected:
        return
    failed = sum(not each.holds for each in expected)
    verdict = f"{failed} of {len(expected)} do not hold" if failed else f"all {len(expected)} hold"
    rows = [[f'<span class="{"good" if each.holds else "bad"}">{"✓ holds" if each.holds else "✗ does not"}</span>',
             escape(each.field), escape(each.expected), escape(each.got)] for each in expected]  # fmt: skip
    yield f"<h2>Expectations: {verdict}</h2>"
    yield _table(["", "field", "expected", "got"], rows)


def _jobs(outcome: Outcome) -> Iterator[str]:
    columns = {"phase": "phase", "rounds": "rounds", "accuracy": "accuracy", "counted": "counted", "refused": "refused",
               "late": "late", "participation": "participation", "duration": "duration", "lost": "lost"}  # fmt: skip
    rows = []
    for job in jobs_by_creation(outcome):
        values = job.values()
        cells = [_value_text(name, values.get(name)) for name in columns]
        if job.planned:
            cells[1] = f"{len(job.rounds)} of {job.planned}"
        rows.append([escape(job.name), *map(escape, cells)])
    if rows:
        yield "<h2>Jobs</h2>"
        yield _table(["job", *columns.values()], rows, numbers=range(2, len(columns) + 1))
    for job in jobs_by_creation(outcome):
        if job.refusals:
            most = sorted(job.refusals.items(), key=lambda item: -item[1])[:8]
            yield _table([f"reasons for refused updates of {escape(job.name)}", "times"],
                         [[escape(why), str(number)] for why, number in most], numbers=(1,))  # fmt: skip


def _accuracy(outcome: Outcome) -> Iterator[str]:
    jobs = [job for job in jobs_by_creation(outcome) if any("accuracy" in each.evaluation for each in job.rounds)]
    if not jobs:
        return
    measured = {job.name: [each for each in job.evaluations if "accuracy" in each.evaluation] for job in jobs}
    over_rounds = [Series(name, [(each.round, each.evaluation["accuracy"]) for each in rounds])
                   for name, rounds in measured.items()]  # fmt: skip
    over_time = [Series(name, sorted((each.measured or each.closed, each.evaluation["accuracy"]) for each in rounds))
                 for name, rounds in measured.items()]  # fmt: skip
    yield "<h2>Accuracy over rounds</h2>"
    yield charts.lines(Frame("Accuracy of the global model over rounds", "round", "accuracy"), over_rounds)
    yield "<h2>Accuracy over time</h2>"
    yield charts.lines(Frame("Accuracy of the global model over time", "time", "accuracy", time=True), over_time)


def _participation(outcome: Outcome) -> Iterator[str]:
    rounds = sorted(((each, job) for job in outcome.jobs.values() for each in job.rounds), key=lambda it: it[0].closed)
    if not rounds:
        return
    several = len(outcome.jobs) > 1
    rounds = rounds[:: -(-len(rounds) // 300)]
    names = [f"{job.name} {each.round}" if several else str(each.round) for each, job in rounds]
    if several and max(map(len, names)) > 8:
        names = [str(each.round) for each, _ in rounds]
    counted = [float(each.counted) for each, _ in rounds]
    refused = [float(each.refused) for each, _ in rounds]
    missing = [max(0.0, (each.asked or 0) - each.counted - each.refused) for each, _ in rounds]
    yield "<h2>Participation</h2>"
    yield charts.bars(
        Frame("Updates counted, refused and missing in each round", "round, in order of closing", "participants",
              format_y=lambda value: f"{value:g}"), names,
        [Stack("counted", counted, "c0"), Stack("refused", refused, "c4"), Stack("missing", missing, "none")],
    )  # fmt: skip


def _staleness(outcome: Outcome) -> Iterator[str]:
    late: dict[int, int] = {}
    for job in outcome.jobs.values():
        for behind, number in job.staleness.items():
            late[behind] = late.get(behind, 0) + number
    yield "<h2>Staleness</h2>"
    if not late:
        yield "<p>No update was late.</p>"
        return
    steps = list(range(max(late) + 1)) if max(late) < 60 else sorted(late)
    yield charts.bars(
        Frame("Late updates by staleness", "rounds behind", "late updates",
              format_y=lambda value: f"{value:g}"),
        [str(each) for each in steps], [Stack("late", [float(late.get(each, 0)) for each in steps], "c1")],
    )  # fmt: skip


def _bytes(outcome: Outcome) -> Iterator[str]:
    edges = sorted(outcome.edges.values(), key=lambda each: -(each.bytes_up + each.bytes_down))
    if not edges:
        return
    yield "<h2>Bytes per edge</h2>"
    frame = Frame("Bytes to and from each edge", "edges, most bytes first", "bytes", format_y=size_text)
    if len(edges) <= MOST_BARS:
        up, down = [float(each.bytes_up) for each in edges], [float(each.bytes_down) for each in edges]
        yield charts.bars(frame, [each.name for each in edges], [Stack("up", up, "c0"), Stack("down", down, "c2")])
        return
    both = {"up": [each.bytes_up for each in edges], "down": [each.bytes_down for each in edges]}
    yield charts.lines(frame, [Series(name, [(at + 1.0, float(each)) for at, each in enumerate(sorted(values)[::-1])])
                               for name, values in both.items()])  # fmt: skip


def _outages(outcome: Outcome) -> Iterator[str]:
    offline = [edge for edge in outcome.edges.values() if edge.outages or outcome.planned_outages.get(edge.name)]
    yield "<h2>Outages</h2>"
    if not offline:
        yield "<p>No edge was offline.</p>"
        return
    shown = offline[:: -(-len(offline) // MOST_ROWS)]
    if len(shown) < len(offline):
        yield f"<p>{len(shown)} of the {len(offline)} edges with outages, evenly chosen.</p>"
    jobs = jobs_by_creation(outcome)
    running = [((job.created, job.ended if job.ended is not None else outcome.duration), "c2") for job in jobs]
    rows = [Row("jobs", running), *(_row(edge, outcome.planned_outages) for edge in shown)]
    yield charts.spans(Frame("Outages of each edge", "time"), rows, outcome.duration,
                       [("job running", "c2"), ("link down by timeline", "c5"), ("seen offline", "c1")])  # fmt: skip


def _row(edge: EdgeOutcome, planned: Mapping[str, Sequence[tuple[float, float]]]) -> Row:
    spans = [(span, "c5") for span in planned.get(edge.name, ())]
    return Row(edge.name, [*spans, *((span, "c1") for span in edge.outages)])


def _value_text(name: str, value: float | str | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if name == "duration":
        return duration_text(value)
    return f"{value:.4f}" if name == "accuracy" else f"{value:.0%}" if name == "participation" else f"{value:g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    kind = ["number" if at in numbers else "" for at in range(len(head))]

    def line(tag: str, cells: Sequence[str]) -> str:
        marked = (f'<{tag} class="{which}">' if which else f"<{tag}>" for which in kind)
        return "<tr>" + "".join(f"{start}{cell}</{tag}>" for start, cell in zip(marked, cells, strict=True)) + "</tr>"

    body = "\n".join(line("td", row) for row in rows)
    return f'<div class="wide"><table><thead>{line("th", head)}</thead>\n<tbody>{body}</tbody></table></div>'
