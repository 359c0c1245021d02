"""``make bench``: measures what the project promises, prints a table, writes ``build/bench.json``."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from heliograph.simulations.benchmarks import aggregation, inference, node, startup, traces
from heliograph.simulations.benchmarks.echo import EchoResult, echo_rounds

OUTPUT = Path("build/bench.json")


@dataclass(frozen=True)
class Figure:
    """A measured figure; ``spread`` runs from the first to the ninth decile of its repeats. ``target`` is a maximum, or
    a minimum where ``more_is_better``."""

    value: float
    unit: str
    spread: tuple[float, float]
    target: float | None
    more_is_better: bool = False

    @property
    def missed(self) -> bool:
        if self.target is None:
            return False
        return self.value < self.target if self.more_is_better else self.value > self.target


def figure(values: Iterable[float], unit: str, target: float | None, quantile: float = 0.5) -> Figure:
    """The quantile of the repeats (the median), with their spread."""
    ordered = sorted(values)
    at = (lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]) if ordered else None
    assert at is not None
    value = statistics.median(ordered) if quantile == 0.5 else at(quantile)
    return Figure(round(value, 4), unit, (round(at(0.1), 4), round(at(0.9), 4)), target)


def rate(values: Iterable[float], unit: str, target: float) -> Figure:
    """The median of the repeats, which shall be at least ``target``."""
    return replace(figure(values, unit, target), more_is_better=True)


def echo(edges: int, size: int, rounds: int) -> EchoResult:
    return asyncio.run(echo_rounds(edges, size, rounds))


def echo_small() -> dict[str, Figure]:
    laps = [lap * 1000 for lap in echo(2, 1000, 400).seconds]
    return {
        "echo 1 kB, 2 edges, p50": figure(laps, "ms", 15),
        "echo 1 kB, 2 edges, p99": figure(laps, "ms", 40, 0.99),
    }


def echo_large(name: str, size: int, rounds: int, target: float) -> Callable[[], dict[str, Figure]]:
    def measure() -> dict[str, Figure]:
        result = echo(4, size, rounds)
        found = {f"echo {name}, 4 edges": figure([lap * 1000 for lap in result.seconds], "ms", target)}
        if size == 100_000_000:
            peak = result.aggregation_peak_rss / 1e6
            found["aggregation worker's peak, 100 MB × 4"] = figure([peak], "MB", 350)
        return found

    return measure


def sums() -> dict[str, Figure]:
    found = aggregation.run()
    ratio = [whole / (1.6 * copy) for whole, copy in zip(found["aggregate"], found["copy"], strict=True)]
    return {
        "aggregation alone, 16 × 25 M float32": figure(found["aggregate"], "s", 0.4),
        "copying 1 GB": figure(found["copy"], "s", None),
        "aggregation against copying as much": figure(ratio, "×", 3),
    }


def starts() -> dict[str, Figure]:
    runs = [asyncio.run(startup.cluster()) for _ in range(5)]
    found = {
        "up with three edges": figure([run["up"] for run in runs], "s", 3),
        "agent ready": figure([run["agent_ready"] for run in runs], "s", 0.5),
        "idle agent": figure([run["agent_mb"] for run in runs], "MB", 45),
    }
    for words in startup.COMMANDS:
        laps = [startup.command(words) * 1000 for _ in range(10)]
        found[f"heliograph {' '.join(words)}"] = figure(laps, "ms", 250)
    return found


def node_figures() -> dict[str, Figure]:
    runs = {name: [node.measure(name) for _ in range(repeats)]
            for name, repeats in (("append", 1), ("worker", 5), ("replay", 5), ("blobs", 5))}  # fmt: skip
    more = max(run["MB more"] for name in ("append", "replay") for run in runs[name])
    return {
        "append into the journal": rate((run["events/s"] for run in runs["append"]), "events/s", 20_000),
        "worker to disk through the node's broker": rate((run["events/s"] for run in runs["worker"]), "events/s", 4000),
        "replay into JetStream": rate((run["events/s"] for run in runs["replay"]), "events/s", 20_000),
        "memory more while 1 million events wait": figure([more], "MB", 10),
        "blob to the cloud": rate((run["put MB/s"] for run in runs["blobs"]), "MB/s", 100),
        "blob from the cloud": rate((run["fetch MB/s"] for run in runs["blobs"]), "MB/s", 100),
    }


def trace_figures() -> dict[str, Figure]:
    runs = {name: [traces.measure(name) for _ in range(3)]
            for name in ("record", "stored", "passing", "read", "replay")}  # fmt: skip
    lost = [run["dropped"] for name in ("record", "passing") for run in runs[name]]
    return {
        "record events while they come": rate((run["messages/s"] for run in runs["record"]), "messages/s", 20_000),
        "record events that a stream has": rate((run["messages/s"] for run in runs["stored"]), "messages/s", 20_000),
        "record what no stream keeps": rate((run["messages/s"] for run in runs["passing"]), "messages/s", 20_000),
        "of all these lost": figure([max(lost)], "messages", 0),
        "write a trace": rate((run["written/s"] for run in runs["read"]), "messages/s", 20_000),
        "read a trace": rate((run["read/s"] for run in runs["read"]), "messages/s", 50_000),
        "replay a trace": rate((run["messages/s"] for run in runs["replay"]), "messages/s", 10_000),
    }


def inferences() -> dict[str, Figure]:
    runs = [asyncio.run(inference.measure()) for _ in range(3)]
    laps = {name: [lap for run in runs for lap in run[name]] for name in runs[0]}
    found = {}
    for name, middle, tail in (("application", 2, 5), ("device, edge", 1, 4), ("device, offloaded", 3, 7)):
        found[f"inference, {name}, p50"] = figure(laps[name], "ms", middle)
        found[f"inference, {name}, p99"] = figure(laps[name], "ms", tail, 0.99)
    found["inference, a 1920 × 1080 frame offloaded"] = figure(laps["frame"], "ms", 60)
    found["its bytes on the wire"] = figure([each / 1e6 for each in laps["frame bytes"]], "MB", 6.3)
    found["edge answers"] = rate(laps["rate, edge"], "/s", 2500)
    found["offloads of one edge"] = rate(laps["rate, offloaded"], "/s", 1000)
    return found


BENCHMARKS: dict[str, Callable[[], dict[str, Figure]]] = {
    "start": starts,
    "sum": sums,
    "node": node_figures,
    "traces": trace_figures,
    "inference": inferences,
    "echo-1kb": echo_small,
    "echo-1mb": echo_large("1 MB", 1_000_000, 40, 60),
    "echo-10mb": echo_large("10 MB", 10_000_000, 20, 250),
    "echo-100mb": echo_large("100 MB", 100_000_000, 8, 2500),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; all without any")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a target is missed")
    arguments = parser.parse_args()
    figures: dict[str, Figure] = {}
    for name in arguments.names or BENCHMARKS:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        figures |= BENCHMARKS[name]()
    show(figures)
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps({name: asdict(each) for name, each in figures.items()}, indent=1) + "\n")
    missed = [name for name, each in figures.items() if each.missed]
    if missed:
        print(f"missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed and arguments.strict else 0


def show(figures: dict[str, Figure]) -> None:
    """The table, for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "median", "10-90 %", "target", box=None, header_style="bold")
    for name, each in figures.items():
        low, high = each.spread
        target = f"{'≥' if each.more_is_better else '≤'} {each.target:g} {each.unit}" if each.target is not None else ""
        mark = "[red]✗[/]" if each.missed else "[green]✓[/]" if target else " "
        table.add_row(name, f"{each.value:g} {each.unit}", f"{low:g} … {high:g}", f"{target} {mark}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
