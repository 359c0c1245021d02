"""Traces as files: messages round-trip, and other programs read them."""

from __future__ import annotations

import json
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader

from heliograph.bus.contract.lanes import LANE, MESSAGE_ID, NUMBER, REPLAYED, headers_of
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.traces import layout, lines
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.schema import topic_schema, wrapped_schema
from heliograph.bus.traces.writing import TraceWriter, part_of
from heliograph.core.errors import Refused
from tests.bus.traces.files import BLOB, DIGEST, SECOND, data_of, message, read, written

addresses = st.sampled_from(
    ["event/telemetry/edge-1/meter", "edge/edge-1/down/task", "reply/me/1", "reply/you/2", "status/jobs/j",
     "somebody/else", "edge/a/up/log/agent/x", "x", "inference/s/answer/e/c/i", "/", "ünï/ço"]
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
        layout.START_METADATA: {"version": "2", "root": "with-blob"}, layout.END_METADATA: {"dropped": "0"}
    }  # fmt: skip
    wrapped = [each[2].data for each in later[:0]] or data_of(path, "reply/{client}/{id}")
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
    messages = [message(n, f"edge/edge-{n % 3}/down/task") for n in range(60)]
    with TraceReader(written(tmp_path / "a.mcap", messages, chunk_size=300)) as reader:
        found = list(reader.messages(lambda topic: "-1/" in topic, 10 * SECOND, 20 * SECOND))
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


def _references_within(schema: dict[str, Any]) -> bool:
    text = json.dumps(schema)
    return all(f'"{name}"' in json.dumps(sorted(schema["$defs"])) for name in _names(text)) and "components" not in text


def _names(text: str) -> list[str]:
    return [part.split('"')[0] for part in text.split("#/$defs/")[1:]]
