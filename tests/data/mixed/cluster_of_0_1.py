"""Run a cluster of release 0.1: print its URL, and stop when the standard input ends. Runs with that release alone.

Arguments: the cluster's directory, the root of code, and the data sets as JSON, by node and name.
"""

import asyncio
import json
import sys
from pathlib import Path

from heliograph.simulations.cluster import LocalCluster


async def main(directory: str, code: str, datasets: str) -> None:
    offered = {
        node: {name: Path(file) for name, file in given.items()} for node, given in json.loads(datasets).items()
    }
    edges = [name for name in offered if name != "cloud"]
    async with LocalCluster(Path(directory), edges, datasets=offered, code=(Path(code),)) as cluster:
        print(cluster.server, flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main(*sys.argv[1:]))
