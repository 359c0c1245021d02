"""Measure the project's figures; compare them with their targets, with earlier runs and with the peers.

Writes bench.json, bench.md, bench.html and bench.svg. Exit code 1: a benchmark failed, a target is missed or a figure
has got worse (with --no-assert: only if a benchmark failed). Exit code 2: the command line or a file cannot be read.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks import history, table
from benchmarks.catalog import BENCHMARKS
from benchmarks.declaration import Benchmark
from benchmarks.html_page import page, sheet
from benchmarks.machine import revision, this_machine
from benchmarks.report import Report, report
from benchmarks.runner import in_fresh_process, run


def main(words: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(words)
    groups = {each.group for each in BENCHMARKS.values()}
    unknown = [name for name in options.names if name not in BENCHMARKS and name not in groups]
    if unknown:
        parser.error(f"no benchmark or group is named {', '.join(unknown)}; --list shows all")
    if options.repeats is not None and options.repeats < 1:
        parser.error(f"--repeats: expected 1 or more, got {options.repeats}")
    chosen = [each for each in BENCHMARKS.values()
              if (not options.names or each.name in options.names or each.group in options.names)
              and not (each.peer and options.no_peers)]  # fmt: skip
    if options.list:
        table.catalogue(chosen, Console())
        return 0
    try:
        kept = history.read(options.history)
        baseline = history.find(options.compare, kept) if options.compare else None
        options.out.mkdir(parents=True, exist_ok=True)
        result = _measure(chosen, options, kept, baseline)
        _write(result, options.out)
        if options.keep:
            history.append(result.run, options.history)
    except (history.HistoryError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("interrupted; no report is written", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(result.document(), indent=1))
    else:
        console = Console()
        table.show(result, console)
        console.print(f"[dim]more in {options.out}/bench.html, .md, .json, .svg[/]", highlight=False)
    return int(bool(result.failed) or (not options.no_assert and result.failing))


def _measure(
    chosen: Sequence[Benchmark], options: argparse.Namespace, kept: Sequence[history.Run], baseline: history.Run | None
) -> Report:
    log = options.out / "bench.log"
    log.write_bytes(b"")
    console = Console(stderr=True)
    with console.status("measuring …") as status:

        def show_progress(benchmark: Benchmark, number: int) -> None:
            words = f"run {number} of {options.repeats or benchmark.repeats}" if number else "preparing"
            status.update(f"{benchmark.name}: {words}")
            if not console.is_terminal:
                print(f"{benchmark.name}: {words}", file=sys.stderr, flush=True)

        outcome = run(chosen, partial(in_fresh_process, log=log), show_progress, options.repeats)
    measured = history.run_of(outcome.figures, this_machine(), revision())
    return report(measured, outcome.figures, kept, baseline, outcome.skipped, outcome.failed)


def _write(result: Report, out: Path) -> None:
    (out / "bench.json").write_text(json.dumps(result.document(), indent=1) + "\n")
    (out / "bench.md").write_text(table.markdown(result))
    (out / "bench.html").write_text(page(result))
    (out / "bench.svg").write_text(sheet(result))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="benchmarks or groups to run (default: all)")
    add("--list", action="store_true", help="list the benchmarks and measure nothing")
    add("--repeats", type=int, metavar="N", help="runs of each benchmark (default: as many as it declares)")
    add("--no-assert", action="store_true", help="exit with 0 even if a target is missed or a figure has got worse")
    add("--no-peers", action="store_true", help="skip the peers")
    add("--compare", metavar="RUN", help="compare with one run: a revision in the history, or a bench.json")
    add("--keep", action="store_true", help="add this run to the history; use it only on an otherwise idle machine")
    add("--json", action="store_true", help="print JSON instead of the table")
    add("--out", type=Path, default=Path("build"), metavar="DIR", help="folder for the files (default: build)")
    add("--history", type=Path, default=history.HISTORY, metavar="FILE", help="history (default: the repository's)")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no process behind when this one is ended
    sys.exit(main())
