"""Writing a trace: an indexed MCAP file; the same messages give the same bytes."""

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
"""Bytes of messages compressed together; a killed process loses as many at most."""


def part_of(path: Path) -> Path:
    """Return the path of a trace while it is being written."""
    return path.with_name(path.name + ".part")


class TraceWriter:
    """A writer of ``OUT.part``, which is renamed to ``OUT`` when it is complete; a context manager.

    Flushed messages stay readable if the process is killed. After an error the file is completed too but stays a part;
    an empty one is deleted.

    Args:
        path: the file; must not exist unless ``overwrite``.
        root: first words of every topic.
        metadata: metadata at the trace's start: time and source of the recording; never credentials.
        chunk_size: bytes after which a chunk is closed.
        overwrite: True to replace an existing file.

    Raises:
        Refused: if the file or its part exists.
        HeliographError: if the MCAP library is missing.
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
        layout.require_library()
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
        # this class closes the chunks, since it flushes at other times too; the library would check every message
        self._writer: Writer = Writer(self._stream, chunk_size=1 << 62, compression=CompressionType.ZSTD)
        self._writer.start(layout.PROFILE, "heliograph")
        self._writer.add_metadata(
            layout.START_METADATA, {"version": str(layout.VERSION), "root": root, **(metadata or {})}
        )
        self._stream.flush()

    def write(self, recorded: Recorded) -> None:
        """Add a message. Raise Refused if it is larger than ``layout.MAX_BODY``, or a time is before 1970 or after
        2554."""
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
        """Attach weights under their SHA-256, once. Raise Refused if the digest is not theirs."""
        if digest in self.attached:
            return
        if not is_digest(digest) or sha256(data).hexdigest() != digest:
            raise Refused("damaged", field="digest", expected=f"bytes whose SHA-256 is {digest}", got=data)
        self._writer.add_attachment(self._last_time, self._last_time, digest, layout.SAFETENSORS, data)
        self.attached.add(digest)

    def add_end_metadata(self, metadata: Mapping[str, str]) -> None:
        """Add metadata known only at the end, for example the number of dropped messages."""
        self._writer.add_metadata(layout.END_METADATA, dict(metadata))

    def flush(self) -> None:
        """Close the chunk and write it to the operating system, so that it survives this process."""
        self._waiting = 0
        self._writer.flush()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Write the index and rename the file from its part."""
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
        """Return the schema's number; 0 if the body is no document or its topic is not declared."""
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
            "exists", topic=str(path), expected="a file that does not exist yet", got="an existing one",
            hint="Choose another name, or delete it.",
        )  # fmt: skip
    try:
        return part.open("wb" if overwrite else "xb")
    except FileExistsError:
        raise Refused(
            "exists", topic=str(part), expected="no such file", got="an existing one",
            hint="Another command is writing it, or an interrupted one left it: 'heliograph trace info' shows its "
            "content; rename or delete it.",
        ) from None  # fmt: skip
