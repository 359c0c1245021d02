"""Packages of training code: pack a folder or a zip, sign it, and put it where every edge can fetch it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from pydantic import ValidationError

from heliograph.bus.contract.buckets import PACKAGES
from heliograph.bus.contract.package_file import (
    Content,
    check_contents,
    dump_manifest,
    parse_manifest,
    read_package,
    write_package,
)
from heliograph.bus.contract.package_signature import sign_package
from heliograph.bus.contract.resources import Algorithm, AlgorithmPackage, PackageManifest, dump, refusal_of
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.weights_file import INLINE
from heliograph.bus.transport import Bus
from heliograph.core.errors import Forbidden, HeliographError, Refused
from heliograph.core.package_paths import MANIFEST
from heliograph.core.signing import Signer
from heliograph.core.world import World
from heliograph.package_sources import read_source

_NO_STORE = "this connection has no object store; use the nats:// address of an operator's login"
_OPTIONS = {"entryPoint": "entry_point", "framework": "framework", "parameters": "parameters"}


class AlgorithmRequests(Protocol):
    """The requests about algorithms, ``AsyncClient.algorithms``."""

    async def get(self, name: str) -> dict[str, Any]: ...
    async def apply(self, document: Mapping[str, Any]) -> dict[str, Any]: ...
    async def update(self, document: Mapping[str, Any]) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Package:
    """A package in memory.

    Attributes:
        content: the package as a file.
        files: its number of files.
        left_out: paths that the folder or the zip has and the package has not.
    """

    content: bytes
    manifest: PackageManifest
    files: int
    left_out: list[str] = field(default_factory=list)

    @property
    def ref(self) -> WeightsRef:
        return WeightsRef(digest=self.digest, size=len(self.content))

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def pack(place: Path, manifest: Mapping[str, Any] | None = None) -> Package:
    """Return the package of a folder or a zip: the same files have the same digest, wherever and from whatever they are
    packed.

    Args:
        manifest: ``entryPoint`` (default: the manifest's, or the only Python file), ``framework`` and ``parameters``;
            without a value where the source has its own ``heliograph-package.json``.

    Raise Refused where a package cannot have these files, OSError where they cannot be read.
    """
    source = read_source(place)
    given = {key: value for key, value in (manifest or {}).items() if value}
    if MANIFEST in source.files:
        made = parse_manifest(source.files[MANIFEST].data, f"{place}/{MANIFEST}")
        for key, name in _OPTIONS.items():
            if key in given and given[key] != getattr(made, name):
                raise Refused("bad-package", topic=str(place), field=key, got=given[key],
                              expected=f"{getattr(made, name)}, as {MANIFEST} says; or nothing")  # fmt: skip
    else:
        entry_point = given.get("entryPoint") or _only_script(place, source.files)
        try:
            made = PackageManifest.model_validate({**given, "entryPoint": entry_point})
        except ValidationError as error:
            raise refusal_of(error, str(place)) from None
    files = {**source.files, MANIFEST: Content(dump_manifest(made))}
    if made.entry_point not in files:
        raise Refused("bad-package", topic=str(place), field="entryPoint", expected="a file of the package",
                      got=made.entry_point)  # fmt: skip
    target = io.BytesIO()
    try:
        write_package(files, target)
    except Refused as error:
        raise Refused(error.code, topic=str(place), expected=error.expected, got=error.got) from None
    return Package(target.getvalue(), made, len(files), source.left_out)


def read(file: Path) -> Package:
    """Return a package that ``pack`` has made. Raise Refused where a file is none."""
    content = file.read_bytes()
    files, manifest = read_package(io.BytesIO(content), str(file))
    return Package(content, manifest, len(files))


def document_of(
    name: str, package: Package, *, inline: bool, signer: Signer | None = None, description: str = ""
) -> dict[str, Any]:
    """Return the Algorithm of a package."""
    manifest = package.manifest
    spec = AlgorithmPackage(
        digest=package.digest, size=len(package.content), entry_point=manifest.entry_point,
        framework=manifest.framework, inline=package.content if inline else None,
        signature=sign_package(signer, name, package.digest) if signer is not None else None,
    )  # fmt: skip
    more = {"description": description} if description else {}
    parameters = {"parameters": manifest.parameters} if manifest.parameters else {}
    return {"kind": "Algorithm", "metadata": {"name": name}, "spec": {**more, **parameters, "package": dump(spec)}}


async def upload_package(
    bus: Bus, world: World, algorithms: AlgorithmRequests, name: str, package: Package, *, signer: Signer | None,
    description: str,
) -> dict[str, Any]:  # fmt: skip
    """See ``AsyncClient.upload_algorithm``."""
    with TemporaryDirectory() as directory:
        stored = await _store(bus, package, world, Path(directory))
    document = document_of(name, package, inline=not stored, signer=signer, description=description)
    try:
        known = (await algorithms.get(name))["spec"].get("package") or {}
    except Refused as error:
        if error.code != "not-found":
            raise
        known = {}
    if signer is None and known.get("digest") == package.digest and "signature" in known:
        document["spec"]["package"]["signature"] = known["signature"]
    return await algorithms.apply(document)


async def sign_stored(algorithms: AlgorithmRequests, name: str, signer: Signer) -> dict[str, Any]:
    """See ``AsyncClient.sign_algorithm``."""
    document = await algorithms.get(name)
    package = package_in(document)
    if document.get("status", {}).get("available") != package.digest:  # the document that is sent has no ``inline``
        raise HeliographError(f"the package of algorithm {name} is not proven yet; see its condition Ready")
    package = package.model_copy(update={"signature": sign_package(signer, name, package.digest)})
    metadata = {key: document["metadata"][key] for key in ("name", "labels", "annotations")
                if key in document["metadata"]}  # fmt: skip
    spec = {**document["spec"], "package": dump(package)}
    return await algorithms.update({"kind": "Algorithm", "metadata": metadata, "spec": spec})


def package_in(document: Mapping[str, Any]) -> AlgorithmPackage:
    """Return the package of an Algorithm. Raise HeliographError where it has none."""
    package = Algorithm.model_validate(document, extra="ignore").spec.package
    if package is None:
        raise HeliographError(f"algorithm {document['metadata']['name']} is no package; nodes offer it themselves")
    return package


async def _store(bus: Bus, package: Package, world: World, directory: Path) -> bool:
    """Put a package where every edge can fetch it. Return False where it has to travel in its document: this login may
    not write into the object store, and the package is small.

    Args:
        directory: a directory for a copy of it.

    Raise HeliographError where it is too large for this login.
    """
    file = directory / package.digest
    await world.in_thread(file.write_bytes, package.content)
    try:
        await (await bus.blobs(PACKAGES)).put(file, package.ref)
    except (NotImplementedError, Forbidden) as error:
        if len(package.content) > INLINE:
            why = str(error) or _NO_STORE
            raise HeliographError(f"the package has {len(package.content)} bytes; more than {INLINE} need the object "
                                  f"store: {why}") from None  # fmt: skip
        return False
    return True


async def fetch_package(bus: Bus, package: AlgorithmPackage, target: Path) -> Path:
    """Write a stored package to a file, and prove it. Return the file.

    Raise Refused where it is no package, Unreachable where it cannot be had now, HeliographError where this login has
    no object store.
    """
    arriving = target.with_name(f"{target.name}.{package.digest[:12]}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        await (await bus.blobs(PACKAGES)).fetch(package.ref, arriving)
    except NotImplementedError:
        raise HeliographError(_NO_STORE) from None
    try:
        with arriving.open("rb") as content:
            files, _ = read_package(content, f"package {package.digest[:12]}")
            check_contents(content, files, f"package {package.digest[:12]}")
    except Refused:
        arriving.unlink()
        raise
    return arriving.replace(target)


def _only_script(place: Path, files: Mapping[str, Content]) -> str:
    scripts = [name for name in files if name.endswith(".py")]
    if len(scripts) != 1:
        raise Refused("bad-package", topic=str(place), field="entryPoint", expected="the script to run",
                      got=f"{len(scripts)} Python files", hint="Name it by --entry-point.")  # fmt: skip
    return scripts[0]
