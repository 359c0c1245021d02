"""Samples of this machine as the content of a data set: a file, or the tar of a directory, in the cloud's store."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from heliograph.bus.contract.buckets import DATASETS
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.dataset import DatasetContent
from heliograph.bus.contract.weights_file import INLINE
from heliograph.bus.transport import Bus
from heliograph.core.errors import Forbidden, HeliographError, Refused
from heliograph.core.world import World

_NO_STORE = "this connection has no object store; use the nats:// address of an operator's login"


async def store_samples(bus: Bus, path: Path, world: World) -> DatasetContent:
    """Put a file or a directory where every agent can fetch it, and return its reference. The same samples have the
    same digest, and are stored once.

    A small file travels in the reference where this login may not write into the object store.

    Raise HeliographError where it is too large for this login, Refused where it is empty or holds more than files and
    directories, OSError where it cannot be read.
    """
    if not await world.in_thread(path.is_dir):
        return await _store(bus, path, path.name, world, directory=False)
    with TemporaryDirectory(prefix="heliograph-push-") as scratch:
        packed = Path(scratch) / "content.tar"
        await world.in_thread(pack, path, packed)
        return await _store(bus, packed, path.resolve().name, world, directory=True)


def pack(directory: Path, target: Path) -> None:
    """Write the tar of a directory: its files sorted, without owners, modes and times, links as the files that they
    name. Hidden files are left out.

    Raise Refused for what is no file or directory.
    """
    import tarfile

    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT, dereference=True) as archive:
        files = 0
        for path in sorted(directory.rglob("*"), key=lambda each: each.relative_to(directory).as_posix()):
            inner = path.relative_to(directory)
            if any(part.startswith(".") for part in inner.parts):
                continue
            if path.is_dir():
                entry = tarfile.TarInfo(inner.as_posix())
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            elif path.is_file():
                entry = tarfile.TarInfo(inner.as_posix())
                with path.open("rb") as content:
                    entry.size = path.stat().st_size
                    archive.addfile(entry, content)
                files += 1
            else:
                raise Refused("invalid", topic=str(directory), expected="files and directories",
                              got=f"{inner}, which is neither", hint="Take it away.")  # fmt: skip
        if not files:
            raise _empty(directory)


async def _store(bus: Bus, file: Path, name: str, world: World, *, directory: bool) -> DatasetContent:
    digest, size = await world.in_thread(_digest, file)
    if not size:
        raise _empty(file)
    content: dict[str, Any] = {"file": name, "digest": digest, "size": size, "directory": directory}
    try:
        await (await bus.blobs(DATASETS)).put(file, WeightsRef(digest=digest, size=size))
    except (NotImplementedError, Forbidden) as error:
        if size > INLINE:
            why = str(error) or _NO_STORE
            raise HeliographError(f"{name} has {size} bytes; more than {INLINE} need the object store: {why}") from None
        return DatasetContent(**content, inline=await world.in_thread(file.read_bytes))
    return DatasetContent(**content, bucket=DATASETS)


def _digest(file: Path) -> tuple[str, int]:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest(), file.stat().st_size


def _empty(path: Path) -> Refused:
    return Refused("invalid", topic=str(path), expected="samples", got="nothing: it is empty",
                   hint="Name a file of data, or a directory of files.")  # fmt: skip
