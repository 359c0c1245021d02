"""Traces as files, for tests."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from mcap.reader import make_reader
from mcap.writer import Writer

from heliograph.bus.contract.event import Event, encode
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.writing import TraceWriter

SECOND = 1_000_000_000
BLOB = b"weights" * 1000
DIGEST = sha256(BLOB).hexdigest()


def message(number: int, topic: str = "event/telemetry/edge-1/meter", size: int = 10, **more: Any) -> Recorded:
    event = Event(f"id-{number}", "edge-1/meter/life", "heliograph.telemetry.v1", {"n": number, "pad": "x" * size})
    return Recorded(topic, encode(event, "json" if number % 2 else "msgpack"), number * SECOND, number * 10, **more)


def written(path: Path, messages: list[Recorded], **options: Any) -> Path:
    with TraceWriter(path, **options) as writer:
        for each in messages:
            writer.write(each)
        if options.get("root") == "with-blob":
            writer.attach(DIGEST, BLOB)
            writer.add_end_metadata({"dropped": "0"})
    return path


def read(path: Path) -> tuple[list[Recorded], list[str]]:
    with TraceReader(path) as reader:
        return list(reader), reader.problems


def mcap_start() -> bytes:
    stream = BytesIO()
    Writer(stream).start()
    return stream.getvalue()


def data_of(path: Path, topic: str) -> list[bytes]:
    with path.open("rb") as file:
        return [each[2].data for each in make_reader(file).iter_messages(topics=[topic])]
