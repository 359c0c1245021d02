"""The node's inventory: its data sets, indexed, and the offers of its workers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from heliograph.bus.contract import payloads, resources
from heliograph.bus.contract.payloads import Offer
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import sentence_of
from heliograph.core.tasks import Background, Flag
from heliograph.core.world import World
from heliograph.edge_agent.dataset_contents import DatasetContents
from heliograph.edge_agent.datasets.known_files import KnownFiles
from heliograph.edge_agent.datasets.stamp import Stamp, stamp_of
from heliograph.edge_agent.datasets.unusable import Interrupted, failed
from heliograph.edge_agent.datasets.urls import resolve
from heliograph.edge_agent.launcher import Launcher, LaunchFailed
from heliograph.edge_agent.recorded_versions import RecordedVersions

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import WorkerTask
    from heliograph.bus.contract.resources import DatasetIndex, DatasetSpec
    from heliograph.bus.contract.resources.dataset import DatasetContent
    from heliograph.bus.contract.resources.telemetry_source import RecordedRows
    from heliograph.edge_agent.datasets.csv_look import Header
    from heliograph.edge_agent.datasets.reading import Advance

RETRY_OFFERS = 10.0
"""Seconds until the launcher is asked for the workers' offers again."""
LOOK_SOON, LOOK = 2.0, 30.0
"""Seconds between two looks at the files: while one is missing or unusable, and otherwise."""
RETRY_CONTENT = 2.0
"""Seconds until a fetch of uploaded samples is tried again."""
SHOWN_EVERY = 0.5
"""Seconds between two reports of how far a file has been read."""


@dataclass(frozen=True)
class OwnDatasets:
    """The data sets that an agent was started with; no document changes them.

    Attributes:
        files: their paths, by name.
        headers: whether the first line names the columns, for those whose cells shall not decide it.
        labels: the column with the labels, by name.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    headers: Mapping[str, Header] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


class Inventory:
    """Data sets by name, with their files, and the offers of the workers.

    Args:
        roots: directories under which a Dataset's file may lie.
        launcher: returns the workers' offers.
        changed: called when a data set has been indexed, a part of a large one read, or the offers are known.
        contents: uploaded samples on this node.
        known: what is known of files that have not changed, and the data sets' versions.
        tells_labels: whether an index may tell how often each label occurs.
    """

    def __init__(
        self,
        own: OwnDatasets,
        roots: Sequence[Path],
        launcher: Launcher,
        world: World,
        background: Background,
        changed: Callable[[], None],
        warn: Callable[[str], None],
        contents: DatasetContents,
        known: KnownFiles,
        tells_labels: bool = False,
    ) -> None:
        self.datasets: dict[str, DatasetIndex] = {}
        self.files: dict[str, Path] = {}
        self.offers: Offer | None = None
        """What the workers can run; None while that is not known."""
        self._own = own
        self._roots = roots
        self._launcher = launcher
        self._world = world
        self._background = background
        self._changed = changed
        self._warn = warn
        self._contents = contents
        self._known = known
        self._tells_labels = tells_labels
        self._wanted: dict[str, DatasetSpec] = {}
        self._indexed: dict[str, Stamp] = {}
        """The stamp of each file when it was indexed."""
        self._passes: dict[str, threading.Event] = {}
        """Set to interrupt the pass over a data set's files."""
        self._fetching: dict[str, str] = {}
        """Data set name to the digest of the content that is on its way."""
        self._recorded = RecordedVersions()
        self._some = Flag()

    async def index_own(self) -> None:
        """Index the data sets that the agent was started with."""
        for name, path in sorted(self._own.files.items()):
            self.files[name] = path
            await self._index_file(name, path, *self._read_as(name))

    async def watch(self) -> None:
        """Index the own data sets. Then index each data set again whose file has come, or has changed and does not
        change any more, until cancelled."""
        await self.index_own()
        last: dict[str, Stamp] = {}
        while True:
            await self._some.wait()
            others = self._indexed.keys() - self._recorded.counts.keys()
            missing = any(each.error for name, each in self.datasets.items() if name not in self._recorded.counts)
            soon = missing or last != {name: self._indexed[name] for name in others}
            await self._world.sleep(LOOK_SOON if soon else LOOK)
            present = await self._world.in_thread(self._look)
            for name, (path, stamp) in present.items():
                content = self._wanted[name].content if name in self._wanted and name not in self._own.files else None
                if content is not None and stamp is None:  # somebody deleted uploaded samples: they are fetched again
                    self._background.spawn(self._fetch(name, content))
                    continue
                moved = path != self.files.get(name)
                if stamp == last.get(name) and (moved or stamp != self._indexed.get(name)) and name in self.datasets:
                    self.files[name] = path
                    await self._index_file(name, path, *self._read_as(name))
            last = {name: stamp for name, (_, stamp) in present.items()}

    def follow(self, wanted: Mapping[str, DatasetSpec]) -> None:
        """Index the data sets of the desired document in the background if they have changed."""
        if wanted != self._wanted:
            before, self._wanted = self._wanted, dict(wanted)
            for name in before:
                if wanted.get(name) != before[name] and name in self._passes:
                    self._passes[name].set()  # nobody waits for the index of what the data set was
            self._background.spawn(self._index(self._wanted, before))

    def files_of(self, task: WorkerTask) -> tuple[Path, ...]:
        """Return the files and directories of a task's data sets, as far as they are here. Its worker is being started:
        of a data set that this node records it reads the version of now as long as it runs."""
        names = [task.dataset or ""] if isinstance(task, payloads.DatasetTask) else []
        names += task.further_datasets.values() if isinstance(task, payloads.PairTask) else ()
        for name in names:
            if name in self.files and name in self.datasets:
                self._recorded.read(task.worker, name, self.files[name], self.datasets[name].samples)
        return tuple(self.files[name] for name in names if name in self.files)

    def read_by(self, worker: str, name: str) -> tuple[Path | None, int]:
        """Return the file or directory of a data set that a worker reads, and the number of its samples."""
        if (found := self._recorded.read_by(worker, name)) is not None:
            return found
        return self.files.get(name), self.datasets[name].samples if name in self.datasets else 0

    def versions_read(self, name: str) -> set[Path]:
        """Return the directories of a recorded data set that workers read, or will read when they are started."""
        found = self._recorded.read_of(name)
        return found | {self.files[name]} if name in self.files else found

    async def take_recorded(self, name: str, version: Path | None, counts: RecordedRows, why: str) -> None:
        """Index a version of a data set that this node records.

        Args:
            version: its directory; None where there is no row yet, and ``why`` says what is waited for.
        """
        spec = self._wanted.get(name)
        if spec is None or spec.telemetry is None or name in self._own.files:
            return
        self._recorded.counts[name] = counts
        if version is None:
            self.files.pop(name, None)
            self._show(failed(name, why))
        elif version == self.files.get(name) and name in self.datasets:
            self._show(self.datasets[name])
        else:
            await self._index_file(name, version, spec, (version,))

    def release(self, used: Collection[str], workers: Collection[str] = ()) -> None:
        """Delete uploaded samples that no data set names any more.

        Args:
            used: data sets that a worker uses: what is to be deleted may be read still.
            workers: the workers that there are: the others read nothing any more.
        """
        self._recorded.keep_only(workers)
        wanted = {name: spec.content.digest for name, spec in self._wanted.items() if spec.content is not None}
        for place in self._contents.take_away(wanted, used):
            self._background.spawn(self._delete(place))

    async def _delete(self, directory: Path) -> None:
        await self._world.in_thread(shutil.rmtree, directory, True)

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

    def _look(self) -> dict[str, tuple[Path, Stamp]]:
        """Return the present path and stamp of each data set's file."""
        found = dict(self._own.files)
        for name, spec in self._wanted.items():
            if name not in found and spec.url is not None:
                with contextlib.suppress(Refused):
                    found[name] = resolve(spec.url, self._roots)
            elif name not in found and name in self.files and spec.telemetry is None:  # uploaded samples
                found[name] = self.files[name]
        return {name: (path, stamp_of(path)) for name, path in found.items()}

    def _read_as(self, name: str) -> tuple[DatasetSpec, Sequence[Path]]:
        """Return how a data set's file is read, and the roots that the files of a directory have to lie below."""
        if name in self._own.files or name not in self._wanted:
            return resources.DatasetSpec(header=self._own.headers.get(name), label=self._own.labels.get(name)), ()
        spec = self._wanted[name]
        return spec, self._roots if spec.content is None else (self.files[name].parent,)

    async def _index(self, wanted: Mapping[str, DatasetSpec], before: Mapping[str, DatasetSpec]) -> None:
        for name in sorted(self.datasets.keys() - wanted.keys() - self._own.files.keys()):
            del self.datasets[name]
            if self._recorded.forget(name):
                self.files.pop(name, None)
            await self._world.in_thread(self._known.forget, name)
        for name, spec in sorted(wanted.items()):
            if name in self._own.files or (name in self.datasets and spec == before.get(name)):
                continue
            if self._wanted.get(name) != spec:
                continue  # a later document says something else of it
            if spec.telemetry is None:
                self._recorded.forget(name)
            if spec.content is not None:
                self._background.spawn(self._fetch(name, spec.content))
            elif spec.url is not None:
                try:
                    self.files[name] = resolve(spec.url, self._roots)
                except Refused as error:
                    self._show(failed(name, str(error)))
                else:
                    await self._index_file(name, self.files[name], spec, self._roots)

    async def _fetch(self, name: str, content: DatasetContent) -> None:
        """Fetch uploaded samples and index them. Those that were here before stay usable until then."""
        if self._fetching.get(name) == content.digest:
            return
        self._fetching[name] = content.digest
        said = ""
        while self._wants(name, content):
            try:
                path = await self._contents.fetch(name, content)
            except Refused as error:
                self._show(failed(name, str(error)))
                break
            except (HeliographError, OSError) as error:
                if said != (said := f"its samples ({content.digest[:12]}) are not here yet: {error}"):
                    self._warn(f"data set {name}: {said}; trying again")
                if name not in self.datasets or self.datasets[name].error:
                    self._show(failed(name, said))
                await self._world.sleep(RETRY_CONTENT)
            else:
                if self._wants(name, content):
                    await self._index_file(name, path, self._wanted[name], (path.parent,))
                break
        if self._fetching.get(name) == content.digest:
            del self._fetching[name]

    def _wants(self, name: str, content: DatasetContent) -> bool:
        spec = self._wanted.get(name)
        return spec is not None and spec.content == content

    async def _index_file(self, name: str, path: Path, spec: DatasetSpec, roots: Sequence[Path]) -> None:
        if name in self._passes:
            self._passes[name].set()
        stop = self._passes[name] = threading.Event()
        self._indexed[name] = await self._world.in_thread(stamp_of, path)
        try:
            found: DatasetIndex = await self._world.in_thread(
                index_file, name, path, spec.format, spec.header, roots, self._progress_of(name, path, stop),
                spec.label, self._tells_labels, self._known, stop.is_set, spec.telemetry is not None,
            )  # fmt: skip
        except Interrupted:
            return
        except asyncio.CancelledError:  # the agent ends: what was read until now is known at its next start
            stop.set()
            raise
        except Exception as error:  # a file that defeats its reader is one more unreadable file
            why = sentence_of(error, f"file {path}")
            found = failed(name, why)
            self._warn(f"data set {name}: {why}")
        finally:
            if self._passes.get(name) is stop:
                del self._passes[name]
        if not stop.is_set():
            self.files[name] = path
            self._show(found)
            self._some.set()

    def _progress_of(self, name: str, path: Path, stop: threading.Event) -> Callable[[Advance], None]:
        """Return the function by which the thread tells how far it is; it passes on a few a second."""
        loop = asyncio.get_running_loop()
        next_at = self._world.monotonic()

        def progress(advance: Advance) -> None:
            nonlocal next_at
            if (now := self._world.monotonic()) >= next_at:
                next_at = now + SHOWN_EVERY
                loop.call_soon_threadsafe(show, advance)

        def show(advance: Advance) -> None:
            if self._passes.get(name) is stop and (name not in self.datasets or not self.datasets[name].version):
                files = f"{advance.files} of {advance.of} files, " if advance.of else ""
                error = f"{path} is being read: {files}{advance.read >> 20} MB so far"
                self._show(failed(name, error).model_copy(update={"read": advance.read}))

        return progress

    def _show(self, found: DatasetIndex) -> None:
        if found.name in self._own.files or found.name in self._wanted:
            if (counts := self._recorded.counts.get(found.name)) is not None:
                found = found.model_copy(update={"recording": counts})
            self.datasets[found.name] = found
            self._changed()


def index_file(*how: Any) -> DatasetIndex:
    """Return the index of a file. The readers of all forms of files are loaded for the first one, in its thread."""
    from heliograph.edge_agent.datasets.indexing import index

    return index(*how)
