"""Traces as files: messages round-trip, other programs read them, and damaged files are read as far as possible."""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.lanes import LANE, MESSAGE_ID, NUMBER, REPLAYED, headers_of
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.traces import layout, lines, mcap_index
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.schema import topic_schema, wrapped_schema
from heliograph.bus.traces.writing import TraceWriter, part_of
from heliograph.core.errors import Refused

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


addresses = st.sampled_from(
    ["event/telemetry/edge-1/meter", "event/task/edge-1", "reply/me/1", "reply/you/2", "status/jobs/j",
     "somebody/else", "log/agent/a/b", "x", "inference/s/answer/e/c/i", "/", "ünï/ço"]
)  # fmt: skip
bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"", b"{}", b'{"a":1}', b" [1]", b"{", b"\x80", b"\x81\xa1a\x01", b"\x8f", b"\xde", b'{"m":"}'])
)  # fmt: skip
names = st.sampled_from([LANE, NUMBER, MESSAGE_ID, REPLAYED, "Other"])
some = ["edge-1.j.0", "edge-1.j.1", "edge-1.j.0.7", "1", "0", "7", "007", "-1", "x", "4294967296", "9" * 19, "9" * 20]
values = st.one_of(st.sampled_from(some),
                   st.text(max_size=5), st.integers(0, 1 << 62).map(str))  # fmt: skip
recordings = st.lists(
    st.builds(
        Recorded, addresses, bodies, st.integers(0, 6), st.integers(0, layout.MAX_TIME),
        st.dictionaries(names, values, max_size=3), st.booleans(),
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recordings, st.sampled_from([1, 300, 1 << 20]), st.sampled_from([0, 2, 60_000]))
def test_messages_are_read_back_in_the_order_of_their_times(
    tmp_path: Path, messages: list[Recorded], chunk: int, channels: int
) -> None:
    patched = pytest.MonkeyPatch()
    patched.setattr(layout, "CHANNELS", channels)
    try:
        path = written(tmp_path / "a.mcap", messages, chunk_size=chunk, overwrite=True)
    finally:
        patched.undo()
    with TraceReader(path) as reader:
        assert list(reader) == sorted(messages, key=lambda each: each.log_time)
        assert reader.problems == []
        assert reader.info.total == len(messages)
        assert reader.info.whole and not reader.info.foreign
    with path.open("rb") as file:
        plain = make_reader(file, validate_crcs=True)
        found = list(plain.iter_messages())
        summary = plain.get_summary()
    assert len(found) == len(messages)
    assert summary is not None and summary.statistics is not None
    assert summary.statistics.message_count == len(messages)
    again = written(tmp_path / "b.mcap", messages, chunk_size=chunk, overwrite=True)
    if channels == layout.CHANNELS:
        assert again.read_bytes() == path.read_bytes()


@settings(max_examples=100, deadline=None)
@given(recordings)
def test_json_lines_round_trip(messages: list[Recorded]) -> None:
    for each in messages:
        for decoded in (False, True):
            assert lines.message_of(json.loads(lines.line_of(each, decoded)), "x", 1) == each


def _imported(text: bytes, path: Path) -> Path:
    with TraceWriter(path) as writer:
        for number, line in lines.lines_of(BytesIO(text), "in.jsonl"):
            lines.write_line(line, "in.jsonl", number, writer)
    return path


@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000, 3_000_001])
def test_an_attachment_of_any_length_is_imported(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 900)
    blob = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    digest = sha256(blob).hexdigest()
    text = f"{lines.attachment_line(digest, blob)}\n{lines.line_of(message(1))}\n".encode()
    with TraceReader(_imported(text, tmp_path / "a.mcap")) as reader:
        assert list(reader.attachments()) == [(digest, blob)]
        assert list(reader) == [message(1)]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (b"", "a closing quote"), (b"\n", "a closing quote"), (b'", "more": 1}\n', "nothing behind it"),
        (b'"', "nothing behind it"), (b'!!!!"}', "base64"),
    ],
)  # fmt: skip
def test_a_long_attachment_that_is_damaged_names_its_line(
    tmp_path: Path, end: bytes, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 900)
    text = b'\n{"attachment": "' + b"0" * 64 + b'", "data": "' + b"AAAA" * 1000 + end
    with pytest.raises(Refused, match=expected) as refused:
        _imported(text, tmp_path / "a.mcap")
    assert refused.value.topic == "in.jsonl line 2"


def test_a_long_line_is_refused_before_it_is_in_memory(tmp_path: Path) -> None:
    class Endless(BytesIO):
        """A line without an end."""

        def readline(self, size: int | None = -1) -> bytes:
            assert size is not None and 0 < size <= lines.MAX_LINE + 1
            return b"x" * size

    with pytest.raises(Refused, match=f"line 1: expected at most {lines.MAX_LINE} bytes"):
        list(lines.lines_of(Endless(), "in.jsonl"))


def test_a_line_of_too_many_values_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_VALUES", 1000)
    for text in (b"[" * 2000, b"[" + b"[]," * 2000, b'{"topic":[' + b"1," * 2000):
        with pytest.raises(Refused, match="line 1: expected at most 1000 values"):
            _imported(text, tmp_path / "a.mcap")


def test_other_programs_read_a_trace_with_its_schemas(tmp_path: Path) -> None:
    messages = [message(n) for n in range(50)] + [message(60, "reply/me/1"), message(61, "reply/me/2")]
    path = written(tmp_path / "a.mcap", messages, chunk_size=500, root="with-blob")
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert summary.statistics.chunk_count == len(summary.chunk_indexes) > 5
        assert all(index.compression == "zstd" for index in summary.chunk_indexes)
        encodings = {channel.message_encoding for channel in summary.channels.values()}
        assert encodings == {"json", "msgpack"}
        for schema in summary.schemas.values():
            assert schema.encoding == "jsonschema"
            assert _references_within(json.loads(schema.data))
        later = list(reader.iter_messages(topics=["event/telemetry/edge-1/meter"], starting_at=40 * SECOND))
        assert [each[2].log_time for each in later] == [n * SECOND for n in range(40, 50)]
        assert later[0][2].publish_time == 400
        assert [each.name for each in reader.iter_attachments()] == [DIGEST]
        metadata = {each.name: each.metadata for each in reader.iter_metadata()}
    assert metadata == {
        layout.START_METADATA: {"version": "1", "root": "with-blob"}, layout.END_METADATA: {"dropped": "0"}
    }  # fmt: skip
    wrapped = [each[2].data for each in later[:0]] or _data_of(path, "reply/{client}/{id}")
    assert any(json.loads(each)["carried"]["address"] == "reply/me/2" for each in wrapped if each[:1] == b"{")


def test_every_topic_has_a_self_contained_schema() -> None:
    for topic in BUILT_IN.topics:
        for schema in (topic_schema(topic), wrapped_schema(topic)):
            assert _references_within(json.loads(schema)), topic.pattern


def test_a_lane_keeps_its_numbers(tmp_path: Path) -> None:
    numbers = [1, 2, (1 << 32) - 1, 1 << 32, (5 << 32) + 3]
    messages = [message(n, headers=headers_of("edge-1.j.0", number)) for n, number in enumerate(numbers)]
    path = written(tmp_path / "a.mcap", messages)
    assert read(path) == (messages, [])
    with path.open("rb") as file:
        found = [each[2].sequence for each in make_reader(file).iter_messages()]
        file.seek(0)
        summary = make_reader(file).get_summary()
    assert found == [number & 0xFFFFFFFF for number in numbers]
    assert summary is not None and len(summary.channels) == 4  # two encodings times three values of the high 32 bits


def test_only_wanted_messages_are_read(tmp_path: Path) -> None:
    messages = [message(n, f"event/task/edge-{n % 3}") for n in range(60)]
    with TraceReader(written(tmp_path / "a.mcap", messages, chunk_size=300)) as reader:
        found = list(reader.messages(lambda topic: topic.endswith("-1"), 10 * SECOND, 20 * SECOND))
    assert [each.log_time // SECOND for each in found] == [10, 13, 16, 19]


def test_late_messages_are_ordered_across_chunks(tmp_path: Path) -> None:
    order = [5, 9, 1, 7, 7, 3, 0, 8, 2]
    messages = [message(n) for n in order]
    found, problems = read(written(tmp_path / "a.mcap", messages, chunk_size=1))
    assert ([each.log_time // SECOND for each in found], problems) == (sorted(order), [])


def test_too_large_overlaps_of_chunks_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heliograph.bus.traces import reading

    monkeypatch.setattr(reading, "MAX_OPEN_BYTES", 1000)
    with TraceWriter(tmp_path / "a.mcap", chunk_size=1 << 30) as writer:
        for _ in range(20):
            for n in (0, 50):
                writer.write(message(n, size=300))
            writer.flush()
    found, problems = read(tmp_path / "a.mcap")
    assert len(found) == 40
    assert len(problems) == 1 and "overlap" in problems[0]


class TestDamaged:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return written(tmp_path / "a.mcap", [message(n) for n in range(40)], chunk_size=600, root="with-blob")

    def test_a_file_cut_anywhere_gives_its_beginning_and_names_the_rest(self, path: Path) -> None:
        whole, _ = read(path)
        data = path.read_bytes()
        cut = path.with_name("cut.mcap")
        most = 0
        for size in [*range(8, 200), *range(200, len(data), 37), *range(len(data) - 120, len(data))]:
            cut.write_bytes(data[:size])
            found, problems = read(cut)
            assert found == whole[: len(found)]
            assert len(found) >= most, "a longer file gave fewer messages"
            most = len(found)
            assert problems, size
        assert most == 40

    def test_the_readable_part_of_a_cut_chunk_is_read(self, tmp_path: Path) -> None:
        with (tmp_path / "a.mcap").open("wb") as file:
            writer = Writer(file, compression=CompressionType.NONE)
            writer.start()
            channel = writer.register_channel("event/telemetry/edge-1/meter", "json", 0)
            for n in range(10):
                writer.add_message(channel, n, b"{}", n)
            writer.finish()
        data = (tmp_path / "a.mcap").read_bytes()
        last = data.rindex(b"{}", 0, data.index(b"{}") + 400)
        (tmp_path / "a.mcap").write_bytes(data[:last])
        found, problems = read(tmp_path / "a.mcap")
        assert len(found) == 9
        assert any("first part" in each for each in problems)

    def test_flushed_messages_survive_a_kill(self, tmp_path: Path) -> None:
        writer = TraceWriter(tmp_path / "a.mcap")
        for n in range(5):
            writer.write(message(n))
        writer.flush()
        writer.write(message(6))
        found, problems = read(part_of(tmp_path / "a.mcap"))
        assert len(found) == 5 and problems
        writer.close()
        assert len(read(tmp_path / "a.mcap")[0]) == 6

    def test_an_error_leaves_a_complete_part(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mcap"
        with pytest.raises(RuntimeError), TraceWriter(path) as writer:
            writer.write(message(1))
            raise RuntimeError
        assert not path.exists()
        assert read(part_of(path)) == ([message(1)], [])

    def test_a_flipped_byte_never_breaks_the_reader(self, path: Path) -> None:
        data = bytearray(path.read_bytes())
        whole = {each.body for each in read(path)[0]}
        for at in range(8, len(data), 11):
            data[at] ^= 0xFF
            path.write_bytes(data)
            try:
                with TraceReader(path) as reader:
                    found = list(reader)
                    list(reader.attachments())
            except Refused:
                pass
            else:
                if len(found) < 40:
                    assert reader.problems, at
                assert {each.body for each in found} <= whole or reader.problems or reader.info.version != 1
            data[at] ^= 0xFF

    def test_a_damaged_chunk_is_named_and_the_others_are_read(self, path: Path) -> None:
        with path.open("rb") as file:
            summary = make_reader(file).get_summary()
        assert summary is not None
        index = summary.chunk_indexes[3]
        data = bytearray(path.read_bytes())
        data[index.chunk_start_offset + index.chunk_length - 5] ^= 1
        path.write_bytes(data)
        found, problems = read(path)
        assert 30 < len(found) < 40
        assert len(problems) == 1 and problems[0].startswith(f"bytes {index.chunk_start_offset} to ")

    @pytest.mark.parametrize("claim", [1 << 20, 1 << 40])
    def test_a_chunk_that_claims_an_enormous_size_allocates_nothing(self, tmp_path: Path, claim: int) -> None:
        bomb = zstandard.compress(bytes(64 << 20))
        head = struct.pack("<QQQII", 0, 1, claim, 0, 4) + b"zstd" + struct.pack("<Q", len(bomb))
        body = head + bomb
        path = tmp_path / "a.mcap"
        path.write_bytes(_mcap_start() + struct.pack("<BQ", 6, len(body)) + body)
        found, problems = read(path)
        assert found == []
        assert any("claims" in each or "unpacks to" in each for each in problems)

    @pytest.mark.parametrize("chunks", [3, 200])
    def test_a_small_file_that_unpacks_to_gigabytes_is_refused(
        self, tmp_path: Path, chunks: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = struct.pack("<BQHIQQ", 5, 22, 1, 0, SECOND, SECOND) * 500_000  # messages without a body
        bomb = zstandard.compress(data)
        head = struct.pack("<QQQII", SECOND, SECOND, len(data), 0, 4) + b"zstd" + struct.pack("<Q", len(bomb))
        chunk = struct.pack("<BQ", 6, len(head) + len(bomb)) + head + bomb
        path = tmp_path / "a.mcap"
        path.write_bytes(_mcap_start() + chunk * chunks)
        unpacked: list[object] = []
        unpack = mcap_index.unpacked
        monkeypatch.setattr(mcap_index, "unpacked", lambda *given: unpacked.append(given) or unpack(*given))
        with pytest.raises(Refused, match="expected chunks that unpack to at most") as refused:
            TraceReader(path)
        assert refused.value.topic == str(path)
        assert len(unpacked) * len(data) <= layout.UNPACKED_FREE + layout.UNPACKED_TIMES * path.stat().st_size

    @pytest.mark.parametrize("code", [8, 10, 13], ids=["chunk", "attachment", "metadata"])
    def test_an_index_that_names_bytes_many_times_is_not_followed(self, path: Path, code: int) -> None:
        before, problems = read(path)
        assert problems == []
        data = path.read_bytes()
        start = struct.unpack("<Q", data[-28:-20])[0]
        at, entry = start, b""
        while not entry:
            kind, length = struct.unpack("<BQ", data[at : at + 9])
            entry = data[at : at + 9 + length] if kind == code else b""
            at += 9 + length
        footer = struct.pack("<BQQQI", 2, 20, start, 0, 0)
        path.write_bytes(data[:start] + entry * 1000 + data[start : -8 - 29] + footer + data[-8:])
        after, problems = read(path)
        assert after == before
        assert problems == ["its index names bytes twice; it was read from its start"]

    def test_records_that_claim_enormous_sizes_are_named(self, tmp_path: Path) -> None:
        path = tmp_path / "a.mcap"
        for code in (3, 4, 5, 6, 9, 12, 16, 200):
            for claim in (1 << 20, 1 << 62, (1 << 64) - 1):
                path.write_bytes(_mcap_start() + struct.pack("<BQ", code, claim) + b"x" * 50)
                found, problems = read(path)
                assert found == [] and len(problems) >= 2, (code, claim)

    def test_a_damaged_attachment_is_named(self, path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[data.index(BLOB) + 10] ^= 1
        path.write_bytes(data)
        with TraceReader(path) as reader:
            assert list(reader.attachments()) == []
            assert reader.problems == [f"attachment {DIGEST}: damaged"]


class TestForeign:
    def make(self, path: Path, **options: Any) -> Path:
        with path.open("wb") as file:
            writer = Writer(file, **options)
            writer.start("ros2", "else")
            ros = writer.register_schema("Image", "ros2msg", b"")
            camera = writer.register_channel("/camera", "cdr", ros)
            ours = writer.register_channel("/heliograph/event/telemetry/edge-1/meter", "json", 0)
            for n in range(10):
                writer.add_message(camera, n, b"\0\1", n)
                writer.add_message(ours, n, b'{"a":%d}' % n, n)
            writer.finish()
        return path

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"use_chunking": False},
            {"compression": CompressionType.LZ4, "chunk_size": 50},
            {"compression": CompressionType.NONE, "repeat_channels": False},
            {"use_statistics": False},
        ],
    )
    def test_readable_channels_are_read_and_the_others_named(self, tmp_path: Path, options: dict[str, Any]) -> None:
        with TraceReader(self.make(tmp_path / "a.mcap", **options)) as reader:
            found = list(reader)
            assert reader.info.foreign
            assert reader.unread == 10
            assert any("/camera" in each and "cdr" in each for each in reader.problems)
        assert [each.topic for each in found] == ["event/telemetry/edge-1/meter"] * 10
        assert [json.loads(each.body)["a"] for each in found] == list(range(10))

    @pytest.mark.parametrize("content", [b"", b"{}\n", b"\x89MCAP", b"SQLite format 3\0" * 10])
    def test_a_file_of_another_format_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.mcap").write_bytes(content)
        with pytest.raises(Refused, match="expected an MCAP file"):
            TraceReader(tmp_path / "a.mcap")

    def test_a_newer_version_is_refused_with_a_hint(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(layout, "VERSION", 2)
        written(tmp_path / "a.mcap", [message(1)])
        monkeypatch.undo()
        with pytest.raises(Refused, match=r"version: expected at most 1, got 2.*pip install -U heliograph"):
            TraceReader(tmp_path / "a.mcap")


class TestWriter:
    def test_an_existing_file_is_not_overwritten_by_default(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.mcap", [message(1)])
        with pytest.raises(Refused, match="a file that does not exist yet"):
            TraceWriter(path)
        part_of(tmp_path / "b.mcap").touch()
        with pytest.raises(Refused, match="an interrupted one left it"):
            TraceWriter(tmp_path / "b.mcap")
        written(path, [message(2)], overwrite=True)
        assert read(path)[0] == [message(2)]

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [(Recorded("a", b"", -1, 0), "log_time"), (Recorded("a", b"", 0, 1 << 64), "publish_time")],
    )
    def test_invalid_messages_and_attachments_are_refused(self, tmp_path: Path, wrong: Recorded, field: str) -> None:
        with TraceWriter(tmp_path / "a.mcap") as writer:
            with pytest.raises(Refused, match=field):
                writer.write(wrong)
            with pytest.raises(Refused, match="expected at most"):
                writer.write(Recorded("a", bytes(layout.MAX_BODY + 1), 0, 0))
            with pytest.raises(Refused, match="SHA-256"):
                writer.attach(DIGEST, b"others")
        assert read(tmp_path / "a.mcap") == ([], [])

    def test_a_blob_is_attached_once(self, tmp_path: Path) -> None:
        with TraceWriter(tmp_path / "a.mcap") as writer:
            writer.attach(DIGEST, BLOB)
            writer.attach(DIGEST, BLOB)
        with TraceReader(tmp_path / "a.mcap") as reader:
            assert list(reader.attachments()) == [(DIGEST, BLOB)]
            assert reader.info.attachments == ((DIGEST, len(BLOB)),)


def _mcap_start() -> bytes:
    stream = BytesIO()
    Writer(stream).start()
    return stream.getvalue()


def _data_of(path: Path, topic: str) -> list[bytes]:
    with path.open("rb") as file:
        return [each[2].data for each in make_reader(file).iter_messages(topics=[topic])]


def _references_within(schema: dict[str, Any]) -> bool:
    text = json.dumps(schema)
    return all(f'"{name}"' in json.dumps(sorted(schema["$defs"])) for name in _names(text)) and "components" not in text


def _names(text: str) -> list[str]:
    return [part.split('"')[0] for part in text.split("#/$defs/")[1:]]
