"""The plots: a self-contained HTML page, and the same charts on one SVG sheet."""

from __future__ import annotations

import re
from html import escape
from itertools import groupby

from benchmarks.charts import STYLE, WIDTH, bars, history_chart
from benchmarks.declaration import OURS
from benchmarks.report import Report

COLUMNS = 3
GAP = 20

_PAGE = """
:root { color-scheme: light dark; }
body { background: Canvas; color: CanvasText; font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 1000px; padding: 0 1rem; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; } .charts { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); } .charts svg { height: auto; width: 100%; }
.notes { color: #b42318; } @media (prefers-color-scheme: dark) { .notes { color: #ff8a75; } }
"""


def page(report: Report) -> str:
    """Return the HTML document; colours follow the reader's light or dark setting."""
    about = f"{report.run}, on {report.run.machine}."
    body = [f"<h1>Benchmarks</h1>\n<p>{escape(about)} A point or a bar is the median of a run. The line through it "
            "spans the smallest to the largest observation. The dashed line is the target.</p>"]  # fmt: skip
    notes = [row.missed for row in report.missed]
    notes += [f"worse: {row.figure.metric.title}" for row in report.worse]
    notes += [f"failed: {name}: {why}" for name, why in report.failed.items()]
    notes += [f"skipped: {name}: {why}" for name, why in report.skipped.items()]
    if notes:
        body.append("<ul class=\"notes\">" + "".join(f"<li>{escape(each)}</li>" for each in notes) + "</ul>")
    for title, charts in _sections(report):
        body.append(f'<h2>{escape(title)}</h2>\n<div class="charts">\n' + "\n".join(charts) + "\n</div>")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>Benchmarks</title>\n'
        f"<style>{_PAGE}{STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def sheet(report: Report) -> str:
    """Return all charts on one SVG sheet, for viewers that cannot show a page."""
    placed, top = [], GAP
    for title, charts in _sections(report):
        placed.append(f'<text class="name" x="{GAP}" y="{top + 10}" font-size="14">{escape(title)}</text>')
        top += 24
        for start in range(0, len(charts), COLUMNS):
            line = charts[start : start + COLUMNS]
            for place, chart in enumerate(line):
                placed.append(chart.replace("<svg ", f'<svg x="{GAP + place * (WIDTH + GAP)}" y="{top}" ', 1))
            top += GAP + max(_height(chart) for chart in line)
    width = GAP + COLUMNS * (WIDTH + GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}">\n'
        f'<style>{STYLE}</style>\n<rect class="paper" width="{width}" height="{top}"/>\n'
        + "\n".join([*placed, "</svg>\n"])
    )


def _sections(report: Report) -> list[tuple[str, list[str]]]:
    """Return titles and charts; the comparison with peers comes first, because readers ask for it first."""
    sides = [bars(question, answers) for question, answers in report.questions().items()]
    ours = [row for row in report.rows if row.figure.by == OURS]
    own = [(name, [history_chart(row) for row in rows]) for name, rows in groupby(ours, lambda row: row.figure.group)]
    return ([("side by side", sides)] if sides else []) + own


def _height(chart: str) -> int:
    found = re.search(r' height="(\d+)"', chart)
    assert found is not None
    return int(found[1])
