"""Echo rounds over the full path: coordinator, agents, brokers, journal, aggregation worker, all real processes."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from heliograph.bus import topics
from heliograph.bus.connect import connect
from heliograph.bus.port import Port
from heliograph.bus.world import World
from heliograph.client import AsyncClient
from heliograph.simulations.cluster import LocalCluster

SCRIPT = Path(__file__).with_name("echo_script.py")
WARM_UP = 3


@dataclass(frozen=True)
class EchoResult:
    """Seconds of each round, close to close, and the aggregation worker's peak resident memory in bytes."""

    seconds: list[float]
    aggregation_peak_rss: int


async def echo_rounds(edges: int, size: int, rounds: int) -> EchoResult:
    """Runs ``rounds`` echo rounds of a model of ``size`` bytes over ``edges`` edges, after a warm-up."""
    names = [f"edge-{number + 1}" for number in range(edges)]
    with tempfile.TemporaryDirectory(prefix="heliograph-echo-") as directory:
        async with LocalCluster(Path(directory), names, code=(SCRIPT.parent,)) as cluster:
            async with AsyncClient(cluster.server) as client, connect(cluster.server) as bus:
                await bus.link.wait_up(5)
                world = World()
                port = Port(bus, world, "bench/echo/1")
                await client.models.create({"kind": "Model", "metadata": {"name": "echo"}})
                times: list[float] = []
                async with port.subscribe(topics.AGGREGATION, lambda error: None) as closed:
                    await client.jobs.create(_task(names, size, rounds + WARM_UP))
                    peak = 0
                    while len(times) < rounds + WARM_UP + 1:
                        event = await asyncio.wait_for(anext(closed), 120)
                        times.append(world.monotonic())
                        assert not event.payload.refused, event.payload.refused
                        assert event.payload.round == 0 or len(event.payload.counted) == edges
                        peak = max(peak, _peak_rss("heliograph.workers.aggregate", cluster.pid("cloud")))
    laps = [after - before for before, after in pairwise(times)]
    return EchoResult(laps[WARM_UP:], peak)


def _task(names: list[str], size: int, rounds: int) -> dict[str, object]:
    spec = {
        "trainScriptBootFile": SCRIPT.name,
        "parameters": [{"key": "elements", "value": size // 4}],
    }
    return {
        "kind": "FederatedTask",
        "metadata": {"name": "echo"},
        "spec": {
            "aggregationWorker": {"model": {"name": "echo"}},
            "rounds": rounds,
            "trainingWorkers": [{"name": name, "nodeName": name, "workerSpec": spec} for name in names],
        },
    }


def _peak_rss(module: str, parent: int) -> int:
    """Peak resident memory of a child process that runs a module (Linux)."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
            if int(status["PPid"]) == parent and module in (place / "cmdline").read_text():
                return int(status["VmHWM"].split()[0]) * 1024
        except (OSError, KeyError, ValueError):
            continue
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, default=2)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = asyncio.run(echo_rounds(arguments.edges, arguments.size, arguments.rounds))
    if arguments.json:
        print(json.dumps(asdict(result)))
        return
    ordered = sorted(result.seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(
        f"{arguments.edges} edges, {arguments.size} bytes: p50 {statistics.median(ordered) * 1000:.1f} ms, "
        f"p99 {p99 * 1000:.1f} ms, best {ordered[0] * 1000:.1f} ms; "
        f"aggregation worker {result.aggregation_peak_rss / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
