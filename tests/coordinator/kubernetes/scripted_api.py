"""An API server whose answers a test writes, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from heliograph.coordinator.kubernetes.api import Change, Kind, Object
from heliograph.coordinator.kubernetes.list_watch import Follower
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World, seeded
from heliograph.simulations.virtual.loop import VirtualLoop, run

KIND = Kind("example.com", "v1", "probes", "Probe")


def probe(name: str, version: int, **more: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "n", "resourceVersion": str(version)}, **more}


async def silent(api: ScriptedApi, seconds: float) -> AsyncGenerator[Change, None]:
    """A watch on which nothing happens."""
    await asyncio.sleep(seconds)
    for change in list[Change]():
        yield change


class ScriptedApi:
    """Implements what a follower asks of an ``Api``.

    Attributes:
        objects: what a list has.
        fails: raised by each list, unless it is None.
        watches: makes each watch, of the server and the seconds that it may take.
        listed, watched: virtual seconds of each request.
        lengths: seconds that each watch was asked for.
        closed: watches that were closed.
    """

    def __init__(self, *objects: Object) -> None:
        self.objects = list(objects)
        self.version = 1
        self.fails: Exception | None = None
        self.watches: Callable[[ScriptedApi, float], AsyncGenerator[Change, None]] = silent
        self.listed = list[float]()
        self.watched = list[float]()
        self.lengths = list[float]()
        self.closed = 0

    async def list(self, kind: Kind, namespace: str = "", labels: str = "") -> tuple[Any, str]:
        self.listed.append(asyncio.get_running_loop().time())
        if self.fails is not None:
            raise self.fails
        return [*self.objects], str(self.version)

    async def watch(
        self, kind: Kind, version: str, namespace: str = "", labels: str = "", seconds: int = 290
    ) -> AsyncGenerator[Change, None]:
        self.watched.append(asyncio.get_running_loop().time())
        self.lengths.append(seconds)
        try:
            async for change in self.watches(self, seconds):
                yield change
        finally:
            self.closed += 1


class Followed:
    """A follower of a scripted server, and what it has said."""

    def __init__(self, api: ScriptedApi, loop: VirtualLoop, **settings: Any) -> None:
        self.api = api
        self.changed = list[str]()
        self.lines = list[str]()
        self.resumed = list[str]()
        world = World(monotonic=loop.time, now=loop.time, sleep=asyncio.sleep, rng=seeded(1))
        self.follower = Follower(
            api, KIND, world, lambda kind, namespace, name: self.changed.append(f"{namespace}/{name}"),  # type: ignore[arg-type]
            self.lines.append, resumed=lambda kind: self.resumed.append(kind.plural), **settings,
        )  # fmt: skip

    @property
    def names(self) -> str:
        return " ".join(sorted(name for _, name in self.follower.objects))


def following(api: ScriptedApi, body: Callable[[Followed], Awaitable[None]], **settings: Any) -> Followed:
    """Run ``body`` in virtual time, while a follower of ``api`` runs."""

    async def main(loop: VirtualLoop) -> Followed:
        followed = Followed(api, loop, **settings)
        task = asyncio.create_task(followed.follower.run())
        await followed.follower.synced.wait() if api.fails is None else await asyncio.sleep(0)
        try:
            await body(followed)
            assert not task.done()
        finally:
            await cancel_and_wait(task)
        return followed

    return run(main)


def most_in_a_second(times: list[float]) -> int:
    """Return how many of some times lie within one second, at most."""
    return max(sum(1 for other in times if each <= other < each + 1) for each in times)
