"""Weights in parts, for participants that speak MQTT alone: requests and answers carry what an agent fetches and stores
as one blob.

The files lie in a temporary directory of this coordinator; a participant whose coordinator changes sends its weights
again from the part that the answer names.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.payloads import PART, UploadState, WeightsPart
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.transport import Bus
from heliograph.bus.weights_transfer import fetch_weights, store_weights
from heliograph.core.errors import Refused
from heliograph.core.own_directory import OwnDirectory
from heliograph.core.world import World

KEPT_FILES = 2
"""Models that lie on the disk for further parts."""
UPLOADS, UPLOAD_BYTES = 64, 4 << 30
"""Uploads that may be under way at once, and their bytes; a further one replaces those that have had no part for
``IDLE`` seconds."""
IDLE = 60.0
INITIAL_MOST = 256 << 20
"""Bytes of initial weights, at most: there is no model yet that would bound them."""
OTHER_BYTES = 64 << 10
"""Bytes that a file may have beyond twice the model's: another writer's header, and F32 in place of BF16."""


@dataclass
class _Upload:
    """A file that comes in parts. ``stored`` is its reference once it is whole."""

    digest: str
    size: int
    path: Path
    received: int = 0
    touched: float = 0.0
    stored: WeightsRef | None = None


class Transfers:
    """Answers with parts of weights, and collects those of participants."""

    def __init__(self, bus: Bus, world: World) -> None:
        self._bus = bus
        self._world = world
        self._directory: OwnDirectory | None = None
        self._models: dict[str, Path] = {}
        """By digest, the newest last."""
        self._uploads: dict[str, _Upload] = {}
        """By participant."""
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def part(self, ref: WeightsRef, offset: int) -> WeightsPart:
        """Return the part of weights that begins at a byte. Raise Refused where they end before it."""
        if offset >= ref.size:
            raise Refused("invalid", field="offset", expected=f"below {ref.size}, the size of the weights", got=offset)
        if ref.inline is not None:
            data = ref.inline[offset : offset + PART]
        else:
            async with self._locks[ref.digest]:
                path = await self._fetched(ref)
                data = await self._world.in_thread(_read, path, offset)
        return WeightsPart(digest=ref.digest, size=ref.size, offset=offset, data=base64.b64encode(data).decode())

    async def receive(
        self, participant: str, digest: str, size: int, offset: int, text: str, model: WeightsRef | None
    ) -> UploadState:
        """Take a part of a participant's weights; with the last one, prove and store them.

        A part that has come before changes nothing, and so does one that is not the next: the answer says which is.
        Raise Refused where the weights are larger than the model allows, or are no safetensors of that digest.
        """
        most = INITIAL_MOST if model is None else 2 * model.size + OTHER_BYTES
        if not 0 < size <= most:
            raise Refused("too-large", field="size", expected=f"1 to {most} bytes, by the model's size", got=size)
        data = _decoded(text)
        async with self._locks[f"upload {participant}"]:
            try:
                upload = self._upload_of(participant, digest, size)
                if upload.stored is not None and not offset and not await self._is_kept(upload.stored):
                    self._forget(participant)  # its round has closed: the same weights come for another one
                    upload = self._upload_of(participant, digest, size)
            except OSError as error:
                raise _no_room(error) from None
            upload.touched = self._world.monotonic()
            if upload.stored is None and offset == upload.received:
                if not data or offset + len(data) > size:
                    raise Refused("invalid", field="data", expected=f"1 to {size - offset} bytes", got=len(data))
                try:
                    await self._world.in_thread(_append, upload.path, offset, data)
                except OSError as error:
                    self._forget(participant)
                    raise _no_room(error) from None
                upload.received += len(data)
            if upload.stored is None and upload.received == size:
                upload.stored = await self._store(participant, upload)
        return UploadState(digest=digest, size=size, received=upload.received, weights=upload.stored)

    async def _fetched(self, ref: WeightsRef) -> Path:
        """Return the file of a blob; fetch it once, and forget the oldest."""
        path = self._models.pop(ref.digest, None) or self._place / f"model-{ref.digest}"
        await fetch_weights(await self._bus.blobs(ref.bucket or MODELS), ref, path, self._world)
        self._models[ref.digest] = path
        for digest in [*self._models][:-KEPT_FILES]:
            if not self._locks[digest].locked():
                self._models.pop(digest).unlink(missing_ok=True)
                del self._locks[digest]
        return path

    def _upload_of(self, participant: str, digest: str, size: int) -> _Upload:
        known = self._uploads.get(participant)
        if known is not None and (known.digest, known.size) == (digest, size):
            return known
        path = self._place / f"upload-{participant}"  # a participant has one at a time, and its name is a label
        if known is not None:
            self._forget(participant)
        self._make_room(size)
        self._uploads[participant] = found = _Upload(digest, size, path)
        return found

    def _make_room(self, size: int) -> None:
        """Forget uploads that are stored, or have had no part for a while. Raise Refused where that is not enough."""
        now = self._world.monotonic()
        for participant, each in sorted(self._uploads.items(), key=lambda item: item[1].touched):
            under_way = sum(each.size for each in self._uploads.values() if each.stored is None)
            if len(self._uploads) < UPLOADS and under_way + size <= UPLOAD_BYTES:
                return
            if each.stored is not None or now - each.touched >= IDLE:
                self._forget(participant)
        under_way = sum(each.size for each in self._uploads.values() if each.stored is None)
        if len(self._uploads) >= UPLOADS or under_way + size > UPLOAD_BYTES:
            raise Refused("overloaded", field="size", expected=f"at most {UPLOADS} uploads at once, of {UPLOAD_BYTES} "
                          "bytes together", got="more", hint="Send the part again in some seconds.")  # fmt: skip

    async def _store(self, participant: str, upload: _Upload) -> WeightsRef:
        bucket = upload_bucket(participant)
        ref = WeightsRef(digest=upload.digest, size=upload.size, bucket=bucket)
        try:
            return await store_weights(self._bus, upload.path, ref, bucket, self._world, hashed=False)
        except Refused:
            self._forget(participant)  # its bytes are wrong: the next part begins anew
            raise
        finally:
            upload.path.unlink(missing_ok=True)

    async def _is_kept(self, ref: WeightsRef) -> bool:
        assert ref.bucket is not None
        return await (await self._bus.blobs(ref.bucket)).has(ref.digest)

    def _forget(self, participant: str) -> None:
        self._uploads.pop(participant).path.unlink(missing_ok=True)

    @property
    def _place(self) -> Path:
        if self._directory is None:
            self._directory = OwnDirectory("heliograph-transfers-", self._world.now())
        return self._directory.path


def _no_room(error: OSError) -> Refused:
    return Refused("overloaded", field="data", expected="room on the coordinator's disk",
                   got=error.strerror or error, hint="Free its disk, and begin again.")  # fmt: skip


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise Refused("invalid", field="data", expected="base64", got=text) from None


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(PART)


def _append(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b" if offset else "wb") as file:
        file.seek(offset)
        file.write(data)
