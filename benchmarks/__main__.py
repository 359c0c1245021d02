"""``make bench``: measures what the project promises, holds it against its targets, its own history and its peers.

Writes bench.json, bench.md, bench.html and bench.svg. Exit code 1 where a benchmark failed, a target is missed or a
figure has got worse (--no-assert: only where a benchmark failed); 2 where the command line or a file is not understood.
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
    asked = parser.parse_args(words)
    groups = {each.group for each in BENCHMARKS.values()}
    unknown = [name for name in asked.names if name not in BENCHMARKS and name not in groups]
    if unknown:
        parser.error(f"no benchmark or group is named {', '.join(unknown)}; --list shows all")
    if asked.repeats is not None and asked.repeats < 1:
        parser.error(f"--repeats: expected 1 or more, got {asked.repeats}")
    chosen = [each for each in BENCHMARKS.values()
              if (not asked.names or each.name in asked.names or each.group in asked.names)
              and not (each.peer and asked.no_peers)]  # fmt: skip
    if asked.list:
        table.catalogue(chosen, Console())
        return 0
    try:
        kept = history.read(asked.history)
        then = history.find(asked.compare, kept) if asked.compare else None
        asked.out.mkdir(parents=True, exist_ok=True)
        told = _measure(chosen, asked, kept, then)
        _write(told, kept, asked.out)
        if asked.keep:
            history.append(told.run, asked.history)
    except (history.HistoryError, OSError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        print("interrupted: nothing is written", file=sys.stderr)
        return 130
    if asked.json:
        print(json.dumps(told.document(), indent=1))
    else:
        console = Console()
        table.show(told, console)
        console.print(f"[dim]more in {asked.out}/bench.html, .md, .json, .svg[/]", highlight=False)
    return int(bool(told.failed) or (not asked.no_assert and bool(told.missed or told.worse)))


def _measure(
    chosen: Sequence[Benchmark], asked: argparse.Namespace, kept: Sequence[history.Run], then: history.Run | None
) -> Report:
    log = asked.out / "bench.log"
    log.write_bytes(b"")
    console = Console(stderr=True)
    with console.status("measuring …") as status:

        def tell(benchmark: Benchmark, number: int) -> None:
            words = f"{number} of {asked.repeats or benchmark.repeats}" if number else "getting ready"
            status.update(f"{benchmark.name}: {words}")
            if not console.is_terminal:
                print(f"{benchmark.name}: {words}", file=sys.stderr, flush=True)

        outcome = run(chosen, partial(in_fresh_process, log=log), tell, asked.repeats)
    found = history.run_of(outcome.figures, this_machine(), revision())
    return report(found, outcome.figures, kept, then, outcome.skipped, outcome.failed)


def _write(told: Report, kept: Sequence[history.Run], out: Path) -> None:
    (out / "bench.json").write_text(json.dumps(told.document(), indent=1) + "\n")
    (out / "bench.md").write_text(table.markdown(told))
    (out / "bench.html").write_text(page(told))
    (out / "bench.svg").write_text(sheet(told))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    say = parser.add_argument
    say("names", nargs="*", metavar="NAME", help="benchmarks or groups; all without any")
    say("--list", action="store_true", help="show what there is, and measure nothing")
    say("--repeats", type=int, metavar="N", help="runs of each, instead of what it declares")
    say("--no-assert", action="store_true", help="exit code 0 also where a target is missed or a figure has got worse")
    say("--no-peers", action="store_true", help="only our own")
    say("--compare", metavar="RUN", help="hold against one run, a revision in the history or a bench.json")
    say("--keep", action="store_true", help="add this run to the history; on a machine that does nothing else")
    say("--json", action="store_true", help="print JSON instead of the table")
    say("--out", type=Path, default=Path("build"), metavar="DIR", help="where the files go (build)")
    say("--history", type=Path, default=history.HISTORY, metavar="FILE", help="another history than the repository's")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended from outside, nothing may go on
    sys.exit(main())
