"""Key-value buckets on JetStream (NATS ADR-8), so that ``nats kv`` reads them, with compare-and-set."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from heliograph.bus.arriving_blob import SEQUENCE
from heliograph.bus.contract.buckets import KEYS_MAX, VALUE_MAX
from heliograph.bus.contract.lanes import EXPECTED_LAST
from heliograph.bus.nats.connection import REQUEST_TIMEOUT, NatsConnection, is_missing, stored_at, time_of, time_told
from heliograph.bus.nats.stream_making import ensure_stream
from heliograph.bus.transport import KeyValueEntry
from heliograph.core.errors import Conflict, Unreachable

_WRONG_REVISION = 10071
_NO_MESSAGE = 10037
_AT_ONCE = 64
"""Keys that are read at the same time."""


class NatsKeyValue:
    """See ``KeyValue``. ``bucket`` is the bucket's name on the broker."""

    def __init__(self, connection: NatsConnection, bucket: str) -> None:
        self.bucket = bucket
        self._connection = connection
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."

    async def prepare(self) -> None:
        """Create the bucket if it is missing."""
        config = {
            "name": self._stream,
            "subjects": [self._prefix + ">"],
            "storage": "file",
            "max_msgs_per_subject": 1,
            "discard": "new",
            # bounds that reserve nothing on the broker's disk; max_bytes would
            "max_msgs": KEYS_MAX,
            "max_msg_size": VALUE_MAX,
            "allow_rollup_hdrs": False,  # else whoever may put a value may delete the whole bucket by a header
            "allow_direct": True,
            "allow_atomic": True,
        }
        await ensure_stream(self._connection, config)

    async def get(self, key: str) -> KeyValueEntry | None:
        if self._connection.replicas > 1:
            return await self._get_from_leader(key)
        answer = await self._connection.request(f"$JS.API.DIRECT.GET.{self._stream}.{self._prefix}{key}")
        if is_missing(answer):
            return None
        return KeyValueEntry(key, answer.data, int((answer.headers or {})[SEQUENCE]), time_of(answer))

    async def _get_from_leader(self, key: str) -> KeyValueEntry | None:
        """Return a key from the server that leads the bucket. Any server answers a direct get, some milliseconds behind
        the leader, and a coordinator that has just met a Conflict would decide by what is not so any more."""
        wanted = {"last_by_subj": self._prefix + key}
        answer = await self._connection.ask(f"$JS.API.STREAM.MSG.GET.{self._stream}", wanted)
        error = answer.get("error", {})
        if error.get("err_code") == _NO_MESSAGE:
            return None
        if error:
            raise Unreachable(f"{key} of {self.bucket} was not read: {error.get('description')}")
        found = answer["message"]
        value = base64.b64decode(found.get("data", ""))
        return KeyValueEntry(key, value, int(found["seq"]), time_told(found["time"]))

    async def put(self, key: str, value: bytes, revision: int | None = None) -> int:
        headers = None if revision is None else {EXPECTED_LAST: str(revision)}
        timeout = self._connection.within(REQUEST_TIMEOUT)
        answer = await self._connection.request(self._prefix + key, value, timeout, headers)
        if json.loads(answer.data).get("error", {}).get("err_code") == _WRONG_REVISION:
            raise Conflict(f"{key} is not at revision {revision} any more")
        return stored_at(answer.data, key)

    async def create_all(self, values: Mapping[str, bytes]) -> dict[str, int]:
        """See ``KeyValue.create_all``: one atomic batch (NATS ADR-50), synced once."""
        keys = [*values]
        if len(keys) < 2:
            return {key: await self.put(key, values[key], 0) for key in keys}
        batch = self._connection.world.new_id()
        connection = self._connection
        for place, key in enumerate(keys, 1):
            headers = {EXPECTED_LAST: "0", "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(place)}
            if place < len(keys):
                await connection.guard(connection.client.publish(self._prefix + key, values[key], headers=headers))
            else:
                headers["Nats-Batch-Commit"] = "1"
                answer = await connection.request(self._prefix + key, values[key], headers=headers)
        if json.loads(answer.data).get("error", {}).get("err_code") == _WRONG_REVISION:
            raise Conflict(f"one of {len(keys)} keys of {self.bucket} exists")
        last = stored_at(answer.data, self.bucket)
        return {key: last - len(keys) + place for place, key in enumerate(keys, 1)}

    async def delete(self, key: str) -> None:
        # purge instead of a delete marker, so that revision 0 can create the key again
        await self._connection.ask(f"$JS.API.STREAM.PURGE.{self._stream}", {"filter": self._prefix + key})

    async def keys(self, prefix: str = "") -> list[str]:
        subjects = await self._connection.counted_subjects(self._stream, self._prefix + ">")
        found = (subject.removeprefix(self._prefix) for subject in subjects)
        return sorted(key for key in found if key.startswith(prefix))

    async def entries(self, prefix: str = "") -> list[KeyValueEntry]:
        keys = await self.keys(prefix)
        found: list[KeyValueEntry | None] = []
        for first in range(0, len(keys), _AT_ONCE):  # the answers to thousands at once would come too late
            found += await asyncio.gather(*(self.get(key) for key in keys[first : first + _AT_ONCE]))
        return [entry for entry in found if entry is not None]

    @asynccontextmanager
    async def changes(self, key: str) -> AsyncIterator[asyncio.Event]:
        changed = asyncio.Event()

        async def written(_: Msg) -> None:
            changed.set()

        def on_link(up: bool) -> None:
            changed.set()

        connection = self._connection
        await connection.link.wait_up()
        subscription = await connection.guard(connection.client.subscribe(self._prefix + key, cb=written))
        connection.link.listen(on_link)
        try:
            yield changed
        finally:
            connection.link.forget(on_link)
            await connection.unsubscribe(subscription)
