"""Uploaded samples on this node: fetched when a data set of the desired document names them, proven, unpacked, and
deleted once no data set names them and no worker uses them."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.blob_sources import CloudBlobs
from heliograph.bus.contract.buckets import DATASETS
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Refused
from heliograph.core.names import is_digest, is_label
from heliograph.core.world import World
from heliograph.edge_agent.datasets.unusable import Unusable

if TYPE_CHECKING:
    from heliograph.bus.contract.resources.dataset import DatasetContent

MAX_FILES = 2_000_000
_BLOB, _UNPACKING = "blob", "unpacking"
"""Names in a content's directory, beside that of its file, which lies one level below."""


class DatasetContents:
    """Files at ``<directory>/<data set>/<digest>/content/<file>``."""

    def __init__(self, directory: Path, cloud: CloudBlobs, world: World) -> None:
        self._directory = directory
        self._cloud = cloud
        self._world = world

    def path(self, dataset: str, content: DatasetContent) -> Path:
        """Return where the content's file or directory lies once it has been fetched."""
        return self._place(dataset, content.digest) / "content" / content.file

    def is_here(self, dataset: str, content: DatasetContent) -> bool:
        return self.path(dataset, content).exists()

    async def fetch(self, dataset: str, content: DatasetContent) -> Path:
        """Return the content's path, fetching it unless it is here; an interrupted fetch is resumed.

        Raise Refused where the bytes are not those of the digest, or are no tar of plain files; Unreachable where they
        cannot be had now; OSError where the disk has no room for them.
        """
        target = self.path(dataset, content)
        if await self._world.in_thread(self.is_here, dataset, content):
            return target
        place = self._place(dataset, content.digest)
        place.mkdir(parents=True, exist_ok=True)
        needed = content.size * (2 if content.directory else 1)
        if needed > (free := shutil.disk_usage(place).free):
            raise OSError(errno.ENOSPC, f"data set {dataset} needs {needed} bytes; {free} are free")
        blob = place / _BLOB
        if content.inline is not None:
            await self._world.in_thread(blob.write_bytes, content.inline)
        else:
            ref = WeightsRef(digest=content.digest, size=content.size, bucket=content.bucket)
            blob = await self._cloud.fetch(ref, blob, bucket=DATASETS)
        await self._world.in_thread(_lay_down, blob, target, content.directory)
        return target

    def take_away(self, wanted: Mapping[str, str], used: Collection[str]) -> list[Path]:
        """Take away contents that no data set names, but for those of data sets that a worker uses. Return directories
        that may be deleted, whenever there is time.

        Args:
            wanted: data set name to the digest of its content.
            used: names of data sets that a worker uses: an earlier version may be read still.
        """
        gone = []
        for dataset in self._directory.iterdir() if self._directory.is_dir() else ():
            if not is_label(dataset.name):
                gone.append(dataset)  # of an earlier start
            elif dataset.name not in used:
                gone += [
                    place.rename(self._directory / f".gone-{dataset.name}-{place.name}")
                    for place in dataset.iterdir()
                    if is_digest(place.name) and wanted.get(dataset.name) != place.name
                ]
        return gone

    def _place(self, dataset: str, digest: str) -> Path:
        return self._directory / dataset / digest


def unpack(blob: Path, target: Path) -> None:
    """Unpack a tar of plain files into the new directory ``target``.

    Raise Refused, naming the member, for any other: a name that leads out, a link, a device, a file that comes twice.
    """
    from heliograph.edge_agent.datasets.tar_members import members  # loaded with the first content

    target.mkdir(parents=True)
    try:
        with blob.open("rb") as stream:
            for number, member in enumerate(members(stream)):
                if number >= MAX_FILES:
                    raise Unusable(f"holds more than {MAX_FILES} files; pack them into fewer, larger ones")
                place = target.joinpath(*(part for part in member.name.split("/") if part not in ("", ".")))
                if member.directory:
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as file:
                    while data := member.content.read(1 << 20):
                        file.write(data)
    except Unusable as error:
        raise _no_tar(str(error)) from None
    except FileExistsError as error:
        raise _no_tar(f"holds {Path(error.filename).name} twice") from None
    except (NotADirectoryError, IsADirectoryError):
        raise _no_tar("holds a file and a directory of one name") from None


def _no_tar(what: str) -> Refused:
    return Refused("bad-content", field="spec.content", expected="the tar of a directory of plain files",
                   got=f"one that {what}", hint="Push it again: 'heliograph datasets push'.")  # fmt: skip


def _lay_down(blob: Path, target: Path, directory: bool) -> None:
    """Put the fetched bytes in their place: all of them or nothing."""
    arriving = blob.with_name(_UNPACKING)
    for leftover in (target.parent, arriving):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        if directory:
            unpack(blob, arriving / target.name)
        else:
            arriving.mkdir()
            blob.rename(arriving / target.name)
    except Refused:
        shutil.rmtree(arriving, ignore_errors=True)
        raise
    finally:
        blob.unlink(missing_ok=True)
    arriving.rename(target.parent)
