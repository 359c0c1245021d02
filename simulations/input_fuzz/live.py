"""Hostile messages for a live cluster, batch after batch. In a batch that does harm, search for the message that does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from heliograph.core.world import World, seeded
from heliograph.simulations.input_fuzz.finding import COMMAND
from heliograph.simulations.input_fuzz.live_cluster import LiveCluster
from heliograph.simulations.input_fuzz.messages import Sent, draw_message, read, write

BATCH = 60
"""Messages between two checks."""


def batch_of(seed: int, number: int) -> list[Sent]:
    """Return a batch by its numbers, the same on every machine."""
    rng = seeded(f"live/{seed}/{number}")
    return [draw_message(rng) for _ in range(BATCH)]


async def fuzz(seconds: float, seed: int, out: Path) -> int:
    """Play batches for so many seconds. Return the number of batches that did harm."""
    world = World()
    end = world.monotonic() + seconds
    number = harmful = 0
    while world.monotonic() < end:
        with tempfile.TemporaryDirectory(prefix="heliograph-fuzz-") as place:
            async with LiveCluster(Path(place)) as cluster:
                while world.monotonic() < end:
                    number += 1
                    batch = batch_of(seed, number)
                    await cluster.send(batch)
                    if harm := await cluster.check():
                        harmful += 1
                        break
                else:
                    break
        await _report(batch, harm, number, out)
    print(f"live: {number} batches of {BATCH} messages, {harmful} did harm", flush=True)
    return harmful


async def replay(file: Path) -> int:
    """Play a file's messages on a new cluster. Return 1 if they do harm."""
    harm = await _harm_of(read(file))
    print("\n".join(harm) if harm else "the cluster holds")
    return int(bool(harm))


async def _report(batch: Sequence[Sent], harm: Sequence[str], number: int, out: Path) -> None:
    single = await _culprit(batch)
    file = write([single] if single is not None else batch, out / f"live-{number}.json")
    what = "one message" if single is not None else f"{len(batch)} messages together"
    print(f"live: {what}: {harm[0]}\nto replay: {COMMAND} --replay {file}\n", flush=True)


async def _culprit(batch: Sequence[Sent]) -> Sent | None:
    """Return the first message that does harm by itself; None where none does."""
    with tempfile.TemporaryDirectory(prefix="heliograph-fuzz-") as place:
        async with LiveCluster(Path(place)) as cluster:
            for each in batch:
                await cluster.send([each])
                if await cluster.check():
                    return each
    return None


async def _harm_of(messages: Sequence[Sent]) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="heliograph-fuzz-") as place:
        async with LiveCluster(Path(place)) as cluster:
            await cluster.send(messages)
            return await cluster.check()
