"""The node's inventory: its data sets, indexed, and the offers of its workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from heliograph.bus.contract.payloads import Offer
from heliograph.bus.contract.resources import DatasetIndex, DatasetSpec
from heliograph.core.errors import Refused
from heliograph.core.failures import sentence_of
from heliograph.core.tasks import Background, Flag
from heliograph.core.text import encodable
from heliograph.core.world import World
from heliograph.edge_agent.datasets import index, resolve
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.edge_agent.launcher import Launcher, LaunchFailed

RETRY_OFFERS = 10.0
"""Seconds until the launcher is asked for the workers' offers again."""
LOOK_SOON, LOOK = 2.0, 30.0
"""Seconds between two looks at the files: while one is missing or unusable, and otherwise."""
_Stamp = tuple[int, int, int] | None


class Inventory:
    """Data sets by name, with their files, and the offers of the workers.

    Args:
        own: data sets that the agent was started with; no document changes them.
        roots: directories under which a Dataset's file may lie.
        launcher: returns the workers' offers.
        changed: called when a data set has been indexed, a part of a large one read, or the offers are known.
        headers: whether the first line names the columns, for own data sets whose cells shall not decide it.
    """

    def __init__(
        self,
        own: Mapping[str, Path],
        roots: Sequence[Path],
        launcher: Launcher,
        world: World,
        background: Background,
        changed: Callable[[], None],
        warn: Callable[[str], None],
        headers: Mapping[str, Header] | None = None,
    ) -> None:
        self.datasets: dict[str, DatasetIndex] = {}
        self.files: dict[str, Path] = {}
        self.offers = Offer()
        self._own = own
        self._roots = roots
        self._launcher = launcher
        self._world = world
        self._background = background
        self._changed = changed
        self._warn = warn
        self._headers = headers or {}
        self._wanted: dict[str, DatasetSpec] = {}
        self._indexed: dict[str, _Stamp] = {}
        """The stamp of each file when it was indexed."""
        self._some = Flag()

    async def index_own(self) -> None:
        """Index the data sets that the agent was started with."""
        for name, path in sorted(self._own.items()):
            self.files[name] = path
            await self._index_file(name, path, *self._read_as(name))

    async def watch(self) -> None:
        """Index the own data sets. Then index each data set again whose file has come, or has changed and does not
        change any more, until cancelled."""
        await self.index_own()
        last: dict[str, _Stamp] = {}
        while True:
            await self._some.wait()
            soon = any(each.error for each in self.datasets.values()) or last != self._indexed
            await self._world.sleep(LOOK_SOON if soon else LOOK)
            present = await self._world.in_thread(self._look)
            for name, (path, stamp) in present.items():
                moved = path != self.files.get(name)
                if stamp == last.get(name) and (moved or stamp != self._indexed.get(name)) and name in self.datasets:
                    self.files[name] = path
                    await self._index_file(name, path, *self._read_as(name))
            last = {name: stamp for name, (_, stamp) in present.items()}

    def follow(self, wanted: Mapping[str, DatasetSpec]) -> None:
        """Index the data sets of the desired document in the background if they have changed."""
        if wanted != self._wanted:
            self._wanted = dict(wanted)
            self._background.spawn(self._index(self._wanted))

    async def learn_offers(self) -> None:
        """Get the workers' offers from the launcher: the agent itself imports no framework. Ask again where it fails:
        jobs that this node aggregates wait for them."""
        said = ""
        while True:
            try:
                text = await self._launcher.offers()
                break
            except LaunchFailed as error:
                if (why := str(error)) != said:
                    self._warn(f"the offers of the workers are unknown: {why}; asking again")
                    said = why
                await self._world.sleep(RETRY_OFFERS)
        *lines, last = text.strip().split(b"\n")
        for line in lines:
            self._warn(f"offers of the workers: {line[:1000].decode(errors='replace')}")
        try:
            self.offers = Offer.from_json(last)
        except ValidationError:
            self._warn(f"the offers of the workers are unknown: {last[-300:].decode(errors='replace')}")
        self._changed()

    def _look(self) -> dict[str, tuple[Path, _Stamp]]:
        """Return the present path and stamp of each data set's file."""
        found = dict(self._own)
        for name, spec in self._wanted.items():
            if name not in found and spec.url is not None:
                with contextlib.suppress(Refused):
                    found[name] = resolve(spec.url, self._roots)
        return {name: (path, _stamp(path)) for name, path in found.items()}

    def _read_as(self, name: str) -> tuple[DatasetSpec, Sequence[Path]]:
        """Return how a data set's file is read, and the roots that the files of a directory have to lie below."""
        if name in self._own or name not in self._wanted:
            return DatasetSpec(header=self._headers.get(name)), ()
        return self._wanted[name], self._roots

    async def _index(self, wanted: Mapping[str, DatasetSpec]) -> None:
        for name in sorted(self.datasets.keys() - wanted.keys() - self._own.keys()):
            del self.datasets[name]
        for name, spec in sorted(wanted.items()):
            if name in self._own or spec.url is None:
                continue
            try:
                self.files[name] = resolve(spec.url, self._roots)
            except Refused as error:
                self.datasets[name] = DatasetIndex(name=name, error=str(error))
                self._changed()
            else:
                await self._index_file(name, self.files[name], spec, self._roots)

    async def _index_file(self, name: str, path: Path, spec: DatasetSpec, roots: Sequence[Path]) -> None:
        loop = asyncio.get_running_loop()

        def progress(read: int) -> None:
            loop.call_soon_threadsafe(self._show_progress, name, path, read)

        self._indexed[name] = await self._world.in_thread(_stamp, path)
        try:
            self.datasets[name] = await self._world.in_thread(
                index, name, path, spec.format, spec.header, roots, progress
            )
        except Exception as error:  # a file that defeats its reader is one more unreadable file
            why = sentence_of(error, f"file {path}")
            self.datasets[name] = DatasetIndex(name=name, error=encodable(why)[:1000])
            self._warn(f"data set {name}: {why}")
        self._changed()
        self._some.set()

    def _show_progress(self, name: str, path: Path, read: int) -> None:
        error = encodable(f"{path} is being read: {read >> 20} MB so far")[:1000]
        self.datasets[name] = DatasetIndex(name=name, error=error, read=read)
        self._changed()


def _stamp(path: Path) -> _Stamp:
    """Return what changes with a file's content: time of the last change, size and number; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
