"""Writing a trace: an indexed MCAP file in which the same messages are the same bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from heliograph.bus.contract import registry, topics
from heliograph.bus.traces import layout
from heliograph.bus.traces.layout import ChannelKey
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.schema import topic_schema, wrapped_schema
from heliograph.core.errors import Refused
from heliograph.core.names import is_digest

if TYPE_CHECKING:
    from mcap.writer import Writer

CHUNK = 1024 * 1024
"""Bytes of messages that are compressed together; what a process that is killed can lose."""


def part_of(path: Path) -> Path:
    """Where a trace lies while it is being written."""
    return path.with_name(path.name + ".part")


class TraceWriter:
    """Writes ``OUT.part``, which gets its name when it is whole. A context manager.

    What was flushed can be read also where its process was killed. Left by an error, the file is finished all the
    same, but keeps the name of a part; one that holds nothing goes.

    Args:
        path: the file; must not exist unless ``overwrite``.
        root: first words of every topic, for whoever reads it.
        metadata: told at its start: when it was recorded and from what; never credentials.
        chunk_size: bytes after which a chunk is closed.

    Raises Refused where the file, or a part of it, exists; HeliographError where the MCAP library is missing.
    """

    def __init__(
        self,
        path: Path,
        *,
        root: str = topics.DEFAULT_ROOT,
        metadata: Mapping[str, str] | None = None,
        chunk_size: int = CHUNK,
        overwrite: bool = False,
    ) -> None:
        layout.library()
        from mcap.writer import CompressionType, Writer

        self.path = path
        self.messages = 0
        self.attached: set[str] = set()
        self._chunk_size = chunk_size
        self._waiting = 0
        self._last_time = 0
        self._channels: dict[ChannelKey, int] = {}
        self._schemas: dict[str, int] = {}
        self._part = part_of(path)
        self._stream = _create(path, self._part, overwrite)
        # chunks are closed by us: the library asks after each message, and a flush is wanted at other times too
        self._writer: Writer = Writer(self._stream, chunk_size=1 << 62, compression=CompressionType.ZSTD)
        self._writer.start(layout.PROFILE, "heliograph")
        self._writer.add_metadata(
            layout.BEGUN, {"version": str(layout.VERSION), "root": root, **(metadata or {})}
        )
        self._stream.flush()

    def write(self, recorded: Recorded) -> None:
        """Adds a message. Raises Refused where it is larger than ``layout.MAX_BODY``, or its times lie before 1970 or
        after 2554."""
        if len(recorded.body) > layout.MAX_BODY:
            raise Refused(
                "too-large", topic=recorded.topic, expected=f"at most {layout.MAX_BODY} bytes",
                got=f"{len(recorded.body)} bytes",
            )  # fmt: skip
        for name, value in (("log_time", recorded.log_time), ("publish_time", recorded.publish_time)):
            if not 0 <= value <= layout.MAX_TIME:
                raise Refused(
                    "invalid", topic=recorded.topic, field=name, expected="nanoseconds since 1970", got=value
                )
        found = layout.key_of(recorded)
        channel, sequence = None, 0
        data = recorded.body
        if found is not None:
            channel, sequence = self._channels.get(found[0]), found[1]
        if channel is None:
            pattern, unbounded = layout.pattern_of(recorded.topic)
            if found is None or unbounded or len(self._channels) >= layout.CHANNELS:
                key, sequence = ChannelKey(pattern, layout.encoding_of(data), wrapped=True), 0
                data = layout.wrap(recorded, key.encoding)
            else:
                key = found[0]
            channel = self._channels.get(key) or self._open(key, pattern)
        self._writer.add_message(
            channel, recorded.log_time, data, publish_time=recorded.publish_time, sequence=sequence
        )
        self.messages += 1
        self._last_time = recorded.log_time
        self._waiting += len(data) + 64
        if self._waiting >= self._chunk_size:
            self.flush()

    def attach(self, digest: str, data: bytes) -> None:
        """Adds weights under their SHA-256; what is there already is not added again. Raises Refused where they are
        not the ones that the digest names."""
        if digest in self.attached:
            return
        if not is_digest(digest) or sha256(data).hexdigest() != digest:
            raise Refused("damaged", field="digest", expected=f"bytes whose SHA-256 is {digest}", got=data)
        self._writer.add_attachment(self._last_time, self._last_time, digest, layout.SAFETENSORS, data)
        self.attached.add(digest)

    def note(self, found: Mapping[str, str]) -> None:
        """What became known in the end: what was dropped, say."""
        self._writer.add_metadata(layout.ENDED, dict(found))

    @property
    def unflushed(self) -> bool:
        return self._waiting > 0

    def flush(self) -> None:
        """Closes the chunk and hands it to the operating system: it outlives this process."""
        self._waiting = 0
        self._writer.flush()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Writes the index, and gives the file its name."""
        self._finish()
        self._part.replace(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._finish()
            if not self.messages and not self.attached:
                self._part.unlink(missing_ok=True)

    def _finish(self) -> None:
        if not self._stream.closed:
            try:
                self._writer.finish()  # type: ignore[no-untyped-call]
                self._stream.flush()
                os.fsync(self._stream.fileno())
            finally:
                self._stream.close()

    def _open(self, key: ChannelKey, pattern: str) -> int:
        number = self._writer.register_channel(key.address, key.encoding, self._schema(key, pattern), key.metadata())
        self._channels[key] = number
        return number

    def _schema(self, key: ChannelKey, pattern: str) -> int:
        """The schema's number; 0 where a body is no document, or its topic is not declared."""
        topic = registry.declared().by_pattern(pattern)
        if not key.encoding or (topic is None and not key.wrapped):
            return 0
        name = (topic.type if topic is not None else "message") + (".wrapped" if key.wrapped else "")
        if name not in self._schemas:
            schema = wrapped_schema(topic) if key.wrapped or topic is None else topic_schema(topic)
            self._schemas[name] = self._writer.register_schema(name, "jsonschema", schema)
        return self._schemas[name]


def _create(path: Path, part: Path, overwrite: bool) -> Any:
    if path.exists() and not overwrite:
        raise Refused(
            "exists", topic=str(path), expected="a file that does not exist yet", got="one that does",
            hint="Choose another name, or delete it.",
        )  # fmt: skip
    try:
        return part.open("wb" if overwrite else "xb")
    except FileExistsError:
        raise Refused(
            "exists", topic=str(part), expected="no such file", got="one that does exist",
            hint="Another command writes it now, or it is left of one that was cut: 'heliograph trace info' shows what "
            "it holds; rename or delete it.",
        ) from None  # fmt: skip
