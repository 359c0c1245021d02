"""Trace files: MCAP, and lines of JSON that are imported."""

from __future__ import annotations

import json
import random  # noqa: TID251 only its type: the generator is seeded
import struct
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import zstandard

from heliograph.bus.traces.lines import attachment_line, first_line, line_of, lines_of, parse_first_line, write_line
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.writing import TraceWriter
from heliograph.simulations.input_fuzz.mutate import mutate_bytes, mutate_tree
from heliograph.simulations.input_fuzz.target import MIB, Target
from heliograph.simulations.input_fuzz.trees import encode_tree

_RECORD = struct.Struct("<BQ")
_MESSAGES = (
    Recorded("event/telemetry/edge-1/d", b'{"n":1}', 1_000, 1_000, {"Heliograph-Lane": "edge-1.j.1"}),
    Recorded("event/telemetry/edge-1/d", b"\x81\xa1n\x02", 2_000, 1_500),
    Recorded("status/jobs/a", b'{"a":[1,2]}', 3_000, 3_000, retained=True),
    *(Recorded(f"reply/c/{number}", b"{}", 4_000 + number, 4_000) for number in range(4)),
)


@cache
def _whole() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "trace.mcap"
        with TraceWriter(path, metadata={"source": "fuzz"}, chunk_size=200) as writer:
            for each in _MESSAGES:
                writer.write(each)
            writer.attach(sha256(b"weights").hexdigest(), b"weights")
        return path.read_bytes()


def _records(data: bytes) -> list[tuple[int, bytes]]:
    """Return code and content of each record between the magic bytes."""
    found, at = [], 8
    while at + _RECORD.size <= len(data) - 8:
        code, length = _RECORD.unpack_from(data, at)
        found.append((code, data[at + _RECORD.size : at + _RECORD.size + length]))
        at += _RECORD.size + length
    return found


def _bomb(rng: random.Random) -> bytes:
    """Return a chunk record whose bytes unpack to far more, or that claims so."""
    size = rng.choice((1 << 20, 64 << 20, 256 << 20))
    packed = zstandard.compress(bytes(size)) if size < 200 << 20 else _packed_zeros(size)
    claimed = rng.choice((size, 0, 100, 1 << 40, (1 << 64) - 1))
    name = b"zstd"
    body = struct.pack("<QQQII", 0, 1, claimed, 0, len(name)) + name + struct.pack("<Q", len(packed)) + packed
    return _RECORD.pack(6, len(body)) + body


@cache
def _packed_zeros(size: int) -> bytes:
    compressor = zstandard.ZstdCompressor().compressobj()
    block = bytes(MIB)
    return b"".join([*(compressor.compress(block) for _ in range(size // MIB)), compressor.flush()])


def _draw(rng: random.Random) -> bytes:
    """Mutate bytes, or whole records: leave out, repeat, swap, damage; append a bomb to a file without an end."""
    whole = _whole()
    if rng.random() < 0.3:
        return mutate_bytes(rng, whole, whole)
    if rng.random() < 0.02:
        return whole[: len(whole) // 2] + _bomb(rng) * rng.choice((1, 3))
    records = _records(whole)
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(records))
        code, content = records[at]
        kind = rng.randrange(5)
        if kind == 0:
            del records[at]
        elif kind == 1:
            records.insert(rng.randrange(len(records) + 1), records[at])
        elif kind == 2:
            records[at] = (rng.randrange(0, 20), content)
        else:
            records[at] = (code, mutate_bytes(rng, content, content))
        if not records:
            break
    body = b"".join(_RECORD.pack(code, len(content)) + content for code, content in records)
    return whole[:8] + body + (whole[-8:] if rng.random() < 0.8 else b"")


def _read(body: bytes, scratch: Path) -> None:
    file = scratch / "trace.mcap"
    file.write_bytes(body)
    try:
        with TraceReader(file) as reader:
            for each in reader:
                json.dumps(line_of(each, decoded=True)).encode()
            list(reader.attachments())
            list(reader.messages(lambda topic: topic.startswith("status"), start=1_500, end=3_500))
            for problem in reader.problems:
                problem.encode()
    finally:
        file.unlink()


def _lines(rng: random.Random) -> list[Any]:
    first = json.loads(first_line("heliograph", {"source": "fuzz"}))
    attachment = json.loads(attachment_line(sha256(b"weights").hexdigest(), b"weights"))
    return [first, *(json.loads(line_of(each)) for each in _MESSAGES), attachment]


def _valid_lines(rng: random.Random) -> bytes:
    return b"\n".join(encode_tree(each, "json") for each in _lines(rng)) + b"\n"


def _draw_lines(rng: random.Random) -> bytes:
    lines = _lines(rng)
    if rng.random() < 0.2:
        return mutate_bytes(rng, _valid_lines(rng), _valid_lines(rng))
    at = rng.choice((0, rng.randrange(len(lines))))
    lines[at] = mutate_tree(rng, lines[at], rng.choice(lines))
    return b"\n".join(encode_tree(each, "json") for each in lines) + b"\n"


def _read_lines(body: bytes, scratch: Path) -> None:
    """Import lines as ``trace import`` does."""
    source, out = scratch / "lines", scratch / "imported.mcap"
    source.write_bytes(body)
    try:
        with source.open("rb") as file:
            writer, former = None, False
            try:
                for number, line in lines_of(file, "lines"):
                    if writer is None:
                        start = parse_first_line(line, "lines") if isinstance(line, bytes) else None
                        metadata, former = start or ({}, False)
                        writer = TraceWriter(out, root=metadata.pop("root", "heliograph"), metadata=metadata)
                        if start is not None:
                            continue
                    write_line(line, "lines", number, writer, former)
            finally:
                if writer is not None:
                    writer.close()
        if out.exists():
            with TraceReader(out) as reader:
                assert not reader.problems, f"imported, it cannot be read: {reader.problems}"
                list(reader)
    finally:
        for each in scratch.iterdir():
            each.unlink()


TARGETS = (
    Target("trace", lambda rng: _whole(), _read, _draw, seconds=30.0),
    Target("trace-lines", _valid_lines, _read_lines, _draw_lines),
)
