"""The coordinator's part of the kind Algorithm: packages of training code are proven before a job runs them.

A package comes inside its document, or lies in the bucket. Either is read in the background: a job that needs it waits
with the reason. Edges prove it again for themselves, since they need not trust this.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from heliograph.bus.contract.buckets import PACKAGES
from heliograph.bus.contract.package_file import check_contents, check_digest, read_package
from heliograph.bus.contract.parameter_schema import check_parameters
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import (
    Algorithm,
    AlgorithmPackage,
    Condition,
    PackageManifest,
    Resource,
    condition,
)
from heliograph.bus.contract.resources.algorithm import AlgorithmSpec
from heliograph.coordinator.feature import Feature
from heliograph.coordinator.packages import check_unused
from heliograph.core.errors import HeliographError, Refused

_Revision = tuple[str, int]
"""Uid and generation of an Algorithm."""
SUPERSEDED = 64
"""Digests of earlier packages that an Algorithm names until they are deleted."""


class AlgorithmFeature(Feature[Algorithm]):
    """Proves packages, and deletes those that nothing names any more."""

    async def prepare(self) -> None:
        self._looked: dict[str, _Revision] = {}
        """The revision whose package was last looked for, by the Algorithm's name."""
        self._refused: dict[_Revision, str] = {}
        """Why the package of a revision is refused: another look would see the same bytes."""
        self._looking: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether a package is awaited: its upload is told by no message."""
        return any(_awaits(each) and _revision(each) not in self._refused for each in self.resources())

    def validate(self, algorithm: Algorithm, topic: str) -> None:
        """Raise Refused for a package inside the document that is none, and for the name of a node's own algorithm."""
        package = algorithm.spec.package
        if package is None:
            return
        try:
            check_parameters(algorithm.spec.parameters)
        except ValueError as error:
            expected = str(error).removeprefix("expected ")
            raise Refused("invalid", topic=topic, field="spec.parameters", expected=expected,
                          got=algorithm.spec.parameters) from None  # fmt: skip
        known = self.context.store.get(Algorithm, algorithm.name)
        if known is not None and known.spec.package is None and known.status.edges:
            raise Refused("exists", topic=topic, field="metadata.name", expected="a name that no node's algorithm has",
                          got=f"{algorithm.name}, which {', '.join(known.status.edges[:3])} offers",
                          hint="Give the package another name.")  # fmt: skip
        if package.inline is not None:
            _check_inline(package, algorithm, topic)

    def changed(self, known: Algorithm, changed: Algorithm) -> Algorithm:
        before, after = known.spec, changed.spec
        if before.package is None or _content(before) == _content(after):
            return changed
        others = [each for each in changed.status.conditions if each.type != "Ready"]
        update: dict[str, object] = {"available": "", "conditions": others}
        if after.package is None or before.package.digest != after.package.digest:
            digest = before.package.digest
            earlier = [each for each in known.status.superseded if each != digest]
            update |= {"superseded": [*earlier, digest][-SUPERSEDED:], "edges": []}
        return changed.model_copy(update={"status": changed.status.model_copy(update=update)})

    def may_delete(self, other: Resource, topic: str) -> None:
        if isinstance(other, Algorithm):
            check_unused(other, self._users(), topic)

    def _users(self) -> Iterator[Resource]:
        """Yield the resources whose workers may run packages."""
        for kind in declared().kinds.values():
            if kind.code_workers is not Resource.code_workers:
                yield from self.context.store.all(kind)

    async def removed(self, algorithm: Algorithm) -> None:
        package = algorithm.spec.package
        await self._free([*algorithm.status.superseded, *([package.digest] if package is not None else [])])

    async def catch_up(self) -> None:
        """Look again for packages that have not come yet, and delete those that no job runs any more."""
        self._looked.clear()
        present = set(map(_revision, self.resources()))
        self._refused = {revision: why for revision, why in self._refused.items() if revision in present}
        self._look_for_packages()
        for algorithm in self.resources():
            if algorithm.status.superseded:
                left = await self._free(algorithm.status.superseded)
                await self.context.step(Algorithm, algorithm.name, partial(_with_superseded, left=left))

    async def reconcile(self) -> None:
        self._look_for_packages()

    def _look_for_packages(self) -> None:
        for algorithm in self.resources():
            package = algorithm.spec.package
            if package is None or not _awaits(algorithm) or package.digest in self._looking:
                continue
            if self._looked.get(algorithm.name) != (revision := _revision(algorithm)):
                self._looked[algorithm.name] = revision
                self._looking.add(package.digest)
                self.context.background.spawn(self._look(algorithm, package))

    async def _look(self, algorithm: Algorithm, package: AlgorithmPackage) -> None:
        """Prove one package, and show what was found."""
        try:
            reason, message = await self._proven(algorithm, package)
        finally:
            self._looking.discard(package.digest)
        now = self.context.port.world.timestamp()
        await self.context.step(Algorithm, algorithm.name, lambda each: _told(each, package, reason, message, now))

    async def _proven(self, algorithm: Algorithm, package: AlgorithmPackage) -> tuple[str, str]:
        """Return reason and message of the condition ``Ready``; the reason ``Proven`` is the good one."""
        name, world = f"package {package.digest[:12]}", self.context.port.world
        if (why := self._refused.get(_revision(algorithm))) is not None:
            return "Refused", why
        try:
            store = await self.context.port.bus.blobs(PACKAGES)
            with TemporaryDirectory() as directory:
                file = Path(directory) / package.digest
                if package.inline is not None:
                    await world.in_thread(file.write_bytes, package.inline)
                elif not await store.has(package.digest):
                    return "Missing", f"{name} is not in the store yet; upload it (heliograph algorithms upload)"
                else:
                    await store.fetch(package.ref, file)
                await world.in_thread(_check_file, file, package, algorithm)
                if package.inline is not None:
                    await store.put(file, package.ref)
        except Refused as error:
            self._refused[_revision(algorithm)] = str(error)
            return "Refused", str(error)
        except (HeliographError, OSError) as error:
            return "Unreachable", f"{name}: {error}"
        return "Proven", f"{name} is in the store"

    async def _free(self, digests: Iterable[str]) -> list[str]:
        """Delete packages that nothing names. Return the others."""
        named = {each.spec.package.digest for each in self.resources() if each.spec.package is not None}
        named.update(*(each.pinned_digests for each in self._users()))
        left = []
        for digest in digests:
            if digest in named:
                left.append(digest)
            else:
                await (await self.context.port.bus.blobs(PACKAGES)).delete(digest)
        return left


def _revision(algorithm: Algorithm) -> _Revision:
    return algorithm.metadata.uid, algorithm.metadata.generation


def _content(spec: AlgorithmSpec) -> object:
    """Return the part of a spec that the package's own manifest has to agree with."""
    package = spec.package
    if package is None:
        return None
    return package.digest, package.size, package.entry_point, package.framework, spec.parameters


def _awaits(algorithm: Algorithm) -> bool:
    package = algorithm.spec.package
    return package is not None and algorithm.status.available != package.digest


def _told(algorithm: Algorithm, package: AlgorithmPackage, reason: str, message: str, now: str) -> Algorithm:
    """Return an Algorithm after its package was looked for; one with another package meanwhile stays as it is."""
    if algorithm.spec.package is None or algorithm.spec.package.digest != package.digest:
        return algorithm
    good = reason == "Proven"
    ready = Condition(type="Ready", status="True" if good else "False", reason=reason, message=message)
    conditions = condition(algorithm.status.conditions, ready, now)
    update = {"conditions": conditions, "available": package.digest if good else ""}
    status = algorithm.status.model_copy(update=update)
    return algorithm if status == algorithm.status else algorithm.model_copy(update={"status": status})


def _with_superseded(algorithm: Algorithm, left: list[str]) -> Algorithm:
    if algorithm.status.superseded == left:
        return algorithm
    return algorithm.model_copy(update={"status": algorithm.status.model_copy(update={"superseded": left})})


def _check_inline(package: AlgorithmPackage, algorithm: Algorithm, topic: str) -> None:
    """Raise Refused, naming the field, for a package inside a document that is none of its digest."""
    content = package.inline or b""
    digest = hashlib.sha256(content).hexdigest()
    for field, found, stated in (("size", len(content), package.size), ("digest", digest, package.digest)):
        if found != stated:
            raise Refused("bad-package", topic=topic, field=f"spec.package.{field}", expected=f"{found}, as of inline",
                          got=stated)  # fmt: skip
    try:
        _, manifest = read_package(io.BytesIO(content), "inline")
    except Refused as error:
        raise Refused(error.code, topic=topic, field="spec.package.inline", expected=error.expected, got=error.got,
                      hint=error.hint) from None  # fmt: skip
    _compare(manifest, package, algorithm, topic)


def _check_file(file: Path, package: AlgorithmPackage, algorithm: Algorithm) -> None:
    """Raise Refused where a file is not the package that a document describes."""
    name = f"package {package.digest[:12]}"
    with file.open("rb") as content:
        check_digest(content, package.ref, name)
        files, manifest = read_package(content, name)
        check_contents(content, files, name)
    _compare(manifest, package, algorithm, name)


def _compare(manifest: PackageManifest, package: AlgorithmPackage, algorithm: Algorithm, topic: str) -> None:
    """Raise Refused where a document says another thing than the package's own manifest."""
    pairs = (("spec.package.entryPoint", manifest.entry_point, package.entry_point),
             ("spec.package.framework", manifest.framework, package.framework),
             ("spec.parameters", manifest.parameters, algorithm.spec.parameters))  # fmt: skip
    for field, inside, stated in pairs:
        if inside != stated:
            raise Refused("bad-package", topic=topic, field=field, expected=f"{inside}, as its manifest says",
                          got=stated)  # fmt: skip
