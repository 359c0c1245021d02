"""The node's packages of code: fetched once, proven, unpacked into a folder of their own, and kept for the next job.

``<digest>.zip`` is the package as it came, ``<digest>/`` its files. The folder is made anew at each start of the agent:
whatever has happened to it meanwhile does not run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.blob_sources import CloudBlobs
from heliograph.bus.contract.buckets import PACKAGES
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.core.errors import Refused
from heliograph.core.names import is_digest
from heliograph.core.world import World
from heliograph.edge_agent.blob_cache import BlobCache
from heliograph.edge_agent.code_roots import Code

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import PackageSpec

KEPT_BYTES = 256 << 20
"""Bytes of packages that no task names, at most; those that were used last stay."""
_UNPACKING = ".unpacking"


class PackageStore(BlobCache):
    """Packages on this node's disk."""

    what = "package"

    def __init__(
        self, directory: Path, cloud: CloudBlobs, world: World, changed: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__(directory, cloud, world, changed, failed)
        self._scripts: dict[str, str] = {}
        """The path of each unpacked package's script, by its digest."""
        archives = [path for path in directory.glob("*.zip") if is_digest(path.stem)]
        self._unproven |= {path.stem for path in archives}
        self._recent = [path.stem for path in sorted(archives, key=lambda path: -path.stat().st_mtime_ns)]
        """The packages here, those that were used last first."""
        self._used: frozenset[str] = frozenset()

    @property
    def unpacked(self) -> list[str]:
        """Digests of the packages that can run, sorted."""
        return sorted(self._scripts)

    def code(self, package: PackageSpec) -> Code | None:
        """Return where a package's code lies; None where it is not here. The script imports from its own directory, as
        ``python src/train.py`` does in the package's."""
        if package.digest not in self or package.digest not in self._scripts:
            return None
        folder = self.path(package.ref)
        script = folder / self._scripts[package.digest]
        return Code(script, script.parent, folder)

    def keep_only(self, digests: Collection[str]) -> None:
        """Delete packages that no task names and that were not used for long."""
        used = [digest for digest in self._recent if digest in digests and digest not in self._used]
        for digest in used:
            with contextlib.suppress(OSError):
                os.utime(self._archive(digest))  # the order outlives this process
        self._recent = [*used, *(digest for digest in self._recent if digest not in used)]
        self._used = frozenset(digests)
        kept, room = set(digests), KEPT_BYTES
        for digest in self._recent:
            if digest not in kept and (room := room - _size(self._archive(digest))) >= 0:
                kept.add(digest)
        self._recent = [digest for digest in self._recent if digest in kept]
        super().keep_only(kept)

    async def _bring(self, ref: WeightsRef) -> None:
        archive = self._archive(ref.digest)
        if not archive.exists():
            free = shutil.disk_usage(self.directory).free
            if 2 * ref.size > free:  # the package, and its files
                reason = f"package {ref.digest[:12]} needs {2 * ref.size} bytes; {free} are free"
                raise OSError(errno.ENOSPC, reason, str(self.directory))
            await self._cloud.fetch(ref, archive, bucket=PACKAGES)
        try:
            await self._world.in_thread(self._check, ref)
        except Refused:
            self._delete(ref.digest)
            raise
        if ref.digest not in self._recent:
            self._recent.insert(0, ref.digest)

    def _check(self, ref: WeightsRef) -> None:
        """Prove a package, and unpack it anew."""
        from heliograph.bus.contract.package_file import check_digest, read_package, unpack

        name = f"package {ref.digest[:12]}"
        folder, unpacking = self.path(ref), self.directory / f"{ref.digest}{_UNPACKING}"
        shutil.rmtree(folder, ignore_errors=True)
        self._scripts.pop(ref.digest, None)
        with self._archive(ref.digest).open("rb") as file:
            check_digest(file, ref, name)
            files, manifest = read_package(file, name)
            shutil.rmtree(unpacking, ignore_errors=True)
            unpacking.mkdir(mode=0o700)
            unpack(file, files, unpacking, name)
        unpacking.rename(folder)
        self._scripts[ref.digest] = manifest.entry_point

    def _delete(self, digest: str) -> None:
        self._scripts.pop(digest, None)
        for path in list(self.directory.iterdir()):
            if path.name == digest or path.name.startswith(f"{digest}."):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def _archive(self, digest: str) -> Path:
        return self.directory / f"{digest}.zip"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
