"""Key-value buckets on JetStream (NATS ADR-8), so that ``nats kv`` reads them, with compare-and-set."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import nats.errors
from nats.aio.msg import Msg

from heliograph.bus.transport import KeyValueEntry
from heliograph.core.errors import Conflict

if TYPE_CHECKING:
    from heliograph.bus.nats.bus import NatsBus

_WRONG_REVISION = 10071


class NatsKeyValue:
    """See ``KeyValue``."""

    def __init__(self, bus: NatsBus, bucket: str) -> None:
        self._bus = bus
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."

    async def get(self, key: str) -> KeyValueEntry | None:
        answer = await self._bus.raw_request(f"$JS.API.DIRECT.GET.{self._stream}.{self._prefix}{key}")
        headers = answer.headers or {}
        if headers.get("Status") == "404":
            return None
        return KeyValueEntry(key, answer.data, int(headers["Nats-Sequence"]))

    async def put(self, key: str, value: bytes, revision: int | None = None) -> int:
        from heliograph.bus.nats.bus import stored_at

        headers = None if revision is None else {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        answer = await self._bus.raw_request(self._prefix + key, value, headers=headers)
        if json.loads(answer.data).get("error", {}).get("err_code") == _WRONG_REVISION:
            raise Conflict(f"{key} is not at revision {revision} any more")
        return stored_at(answer.data, key)

    async def delete(self, key: str) -> None:
        # purged rather than marked as deleted, so that revision 0 makes it anew
        body = json.dumps({"filter": self._prefix + key}).encode()
        await self._bus.raw_request(f"$JS.API.STREAM.PURGE.{self._stream}", body)

    async def entries(self, prefix: str = "") -> list[KeyValueEntry]:
        body = json.dumps({"subjects_filter": self._prefix + ">"}).encode()
        answer = json.loads((await self._bus.raw_request(f"$JS.API.STREAM.INFO.{self._stream}", body)).data)
        subjects = sorted((answer.get("state", {}).get("subjects") or {}).keys())
        keys = [key for key in (subject.removeprefix(self._prefix) for subject in subjects) if key.startswith(prefix)]
        found = await asyncio.gather(*(self.get(key) for key in keys))
        return [entry for entry in found if entry is not None]

    @asynccontextmanager
    async def changes(self, key: str) -> AsyncIterator[asyncio.Event]:
        changed = asyncio.Event()

        async def written(_: Msg) -> None:
            changed.set()

        def on_link(up: bool) -> None:
            changed.set()

        await self._bus.link.wait_up()
        subscription = await self._bus.guard(self._bus.client.subscribe(self._prefix + key, cb=written))
        self._bus.link.listen(on_link)
        try:
            yield changed
        finally:
            self._bus.link.forget(on_link)
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
