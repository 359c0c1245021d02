"""Record the data sets that a desired document asks for: read the devices' events from the journal, each once, make
rows of them, and a version at times.

A data set's rows and the number up to which it has read the journal are committed together, and the journal deletes no
event before that: no message is lost or counts twice, whenever the agent is killed.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.resources.telemetry_source import TelemetrySource
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import Failures
from heliograph.core.names import is_label
from heliograph.core.tasks import Flag
from heliograph.core.world import World
from heliograph.edge_agent.inventory import Inventory
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.recording.journal_reader import JournalReader, address_prefix
from heliograph.edge_agent.recording.recording import Recording, Version, open_recording

GROUP = 0.2
"""Seconds between two reads of the journal: each commit costs a sync."""
RETRY = 10.0
"""Seconds until a recording that failed, of a full disk say, is opened again."""


class Recorder:
    """Records below ``directory``, which has a directory for each data set.

    Args:
        path: the journal's file.
        inventory: is told each version.
        warn: called with a line.
    """

    def __init__(
        self, directory: Path, path: Path, edge: str, journal: Journal, inventory: Inventory, world: World,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._directory = directory
        self._path = path
        self._edge = edge
        self._prefix = address_prefix(edge)
        self._journal = journal
        self._inventory = inventory
        self._world = world
        self._warn = warn
        self._failures = Failures(lambda line: self._lines.append(line))
        self._lines: list[str] = []
        """What the thread has to say."""
        self._wanted: Mapping[str, TelemetrySource] = {}
        self._is_present = False
        self._open: dict[str, Recording] = {}
        self._retry: dict[str, float] = {}
        """When a data set that failed is opened again, by the monotonic clock."""
        self._due: dict[str, float] = {}
        """When the next version may be made."""
        self._shown: dict[str, str] = {}
        self._woken = Flag()
        self._one = threading.Lock()
        """Held by the thread: it may still run when the agent ends."""
        journal.heard = self._woken.set

    def follow(self, wanted: Mapping[str, TelemetrySource], is_present: bool) -> None:
        """Record these data sets, and delete the rows of others where ``is_present``."""
        if wanted != self._wanted or is_present != self._is_present:
            self._wanted, self._is_present = dict(wanted), is_present
            self._woken.set()

    @property
    def recorded_through(self) -> int | None:
        """The number of the journal's bulk lane up to which all is recorded; None where nothing can be."""
        open_ones = [self._open.get(name) for name in self._wanted if name not in self._retry]
        return min((each.mark if each is not None else 0 for each in open_ones), default=None)

    def stays(self, address: str) -> bool:
        """Return whether the events of an address are not for the cloud."""
        device = address.removeprefix(self._prefix)
        if device == address:
            return False
        kept = (each for each in self._wanted.values() if not each.forward)
        return any(device in _devices(each) if each.join is not None else
                   any(fnmatchcase(device, pattern) for pattern in each.devices) for each in kept)  # fmt: skip

    async def run(self) -> None:
        """Record until cancelled."""
        try:
            while True:
                self._woken.clear()
                more = await self._world.in_thread(self._record)
                self._say()
                with contextlib.suppress(HeliographError):  # a full disk, say: they go with later ones
                    await self._journal.forget_recorded()
                await self._make_versions()
                if not more:
                    await self._wait()
        finally:
            self._close()

    async def _wait(self) -> None:
        """Return when the journal has more, the document has changed, or something is due."""
        times = [self._retry[name] for name in self._wanted if name in self._retry]
        now = self._world.now()
        for name, recording in self._open.items():
            if recording.changed or self._shown.get(name) != _text_of(recording):
                times.append(self._due.get(name, 0.0))
            if (overdue := recording.next_overdue) is not None:
                times.append(self._world.monotonic() + max(GROUP, overdue - now))
        await _first_of(self._woken, min(times, default=None), self._world)
        await self._world.sleep(GROUP)

    def _record(self) -> bool:
        """Take the next events of the journal. Return whether there are more."""
        with self._one:
            self._open_wanted()
            if not self._open:
                return False
            with contextlib.closing(JournalReader(self._path, self._edge, self._world)) as reader:
                after = min(each.mark for each in self._open.values())
                try:
                    through, last = reader.through(after)
                    self._take(reader, after, through)
                except sqlite3.Error as error:
                    self._failures.add(f"journal {self._path}", error)
                    return False
            return not last

    def _take(self, reader: JournalReader, after: int, through: int) -> None:
        taking = dict(self._open)
        for name, recording in list(taking.items()):
            with self._contained(name, taking):
                recording.begin()
        for each in reader.events(after, through):
            device = each.address.removeprefix(self._prefix)
            takes = {name: of for name, of in taking.items() if of.takes(device)}
            if not takes:
                continue
            try:
                event = decode(each.body, each.address)
            except Refused as error:
                self._failures.add(each.address, error)
                continue
            for name, recording in takes.items():
                with self._contained(name, taking):
                    recording.take(each.n, device, each.address, event)
        for name, recording in list(taking.items()):
            with self._contained(name, taking):
                recording.commit(max(through, recording.mark))

    def _open_wanted(self) -> None:
        for name, recording in list(self._open.items()):
            if self._wanted.get(name) != recording.source:
                recording.close()
                del self._open[name]
        if self._is_present and self._directory.is_dir():
            for place in self._directory.iterdir():
                if place.name not in self._wanted and is_label(place.name):
                    shutil.rmtree(place, ignore_errors=True)
        for name, source in self._wanted.items():
            if name in self._open or self._retry.get(name, 0.0) > self._world.monotonic():
                continue
            with self._contained(name):
                self._open[name] = open_recording(
                    self._directory / name, source, self._journal.uuid, self._world, self._refused, self._lines.append
                )
                self._retry.pop(name, None)
                self._due.pop(name, None)
                self._shown.pop(name, None)

    async def _make_versions(self) -> None:
        for name, recording in list(self._open.items()):
            text = _text_of(recording)
            if self._world.monotonic() < self._due.get(name, 0.0) or (
                not recording.changed and self._shown.get(name) == text
            ):
                continue
            self._due[name] = self._world.monotonic() + recording.source.every_seconds
            version = await self._world.in_thread(self._version_of, name, recording)
            self._say()
            if name in self._open and self._open[name] is recording:
                self._shown[name] = _text_of(recording)
                await self._inventory.take_recorded(
                    name, version.path if version is not None else None, recording.counts.model_copy(),
                    f"has no row yet: {recording.counts.unreadable} messages could not be read, "
                    f"{recording.counts.waiting} rows wait for their label; it waits for {_awaited(recording.source)}",
                )  # fmt: skip
                used = self._inventory.versions_read(name) | ({version.path} if version is not None else set())
                await self._world.in_thread(self._keep_only, name, recording, used)

    def _version_of(self, name: str, recording: Recording) -> Version | None:
        with self._one, self._contained(name):
            return recording.make_version()
        return None

    def _keep_only(self, name: str, recording: Recording, used: Collection[Path]) -> None:
        with self._one, self._contained(name):
            recording.keep_only(used)

    @contextlib.contextmanager
    def _contained(self, name: str, taking: dict[str, Recording] | None = None) -> Iterator[None]:
        """Close a recording that fails: it is opened again later, and goes on with what is committed."""
        try:
            yield
        except Exception as error:
            self._failures.add(f"data set {name}", HeliographError(f"data set {name} is not recorded now: {error}")
                               if isinstance(error, (sqlite3.Error, OSError)) else error)  # fmt: skip
            self._retry[name] = self._world.monotonic() + RETRY
            if taking is not None:
                taking.pop(name, None)
            if (failed := self._open.pop(name, None)) is not None:
                failed.close()

    def _refused(self, address: str, error: Refused) -> None:
        self._failures.add(address, error.about(address))

    def _say(self) -> None:
        lines, self._lines = self._lines, []
        for line in lines:
            self._warn(line)

    def _close(self) -> None:
        with self._one:
            for recording in self._open.values():
                recording.close()
            self._open.clear()


def _devices(source: TelemetrySource) -> set[str]:
    return {field.split("/", 1)[0] for field in source.fields}


def _awaited(source: TelemetrySource) -> str:
    return f"messages of {', '.join(sorted(_devices(source)) if source.join is not None else source.devices)}"


def _text_of(recording: Recording) -> str:
    """Return the counts that are shown."""
    return recording.counts.model_dump_json(exclude={"recorded"})


async def _first_of(flag: Flag, until: float | None, world: World) -> None:
    """Wait for a flag, until a time of the monotonic clock at the longest."""
    if until is None:
        await flag.wait()
        return
    import asyncio

    waiting = asyncio.ensure_future(flag.wait())
    sleeping = asyncio.ensure_future(world.sleep(max(0.0, until - world.monotonic())))
    try:
        await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        sleeping.cancel()
