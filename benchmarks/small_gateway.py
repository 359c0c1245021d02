"""What a gateway with little memory holds: the agent, the node's broker, and a worker that infers with NumPy."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from benchmarks.declaration import Samples, Unavailable
from benchmarks.inference_calls import application, device, node_of, serving
from benchmarks.processes import tree
from heliograph.local.cluster import HERE


def memory() -> Samples:
    """Return MB of 1024 × 1024 bytes: ``agent``, with the process that ends orphans, ``worker``, ``broker``, and
    ``all`` of them. Pages that processes share count once."""
    return asyncio.run(_memory())


async def _memory() -> Samples:
    async with serving(HERE) as cluster:
        node = node_of(cluster)
        for calls in (partial(application, node), partial(device, node, "edge", 0)):
            await asyncio.to_thread(calls)
        own = {pid: _shared_out(pid) for pid in tree(cluster.pid("edge-1"))}
        worker = max((pid for pid in own if pid != cluster.pid("edge-1")), key=own.__getitem__)
        broker = cluster.nodes["edge-1"].broker
        assert broker is not None and broker.process is not None
        found = {"worker": own.pop(worker), "agent": sum(own.values()),
                 "broker": _shared_out(broker.process.pid)}  # fmt: skip
        return {name: [size / 2**20] for name, size in (found | {"all": sum(found.values())}).items()}


def _shared_out(pid: int) -> int:
    """Return the resident bytes of a process, of shared pages its share."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        raise Unavailable("this kernel has no /proc/PID/smaps_rollup") from None
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
