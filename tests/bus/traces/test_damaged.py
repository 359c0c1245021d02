"""Damaged files and files of other programs are read as far as possible, and say what is wrong."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import zstandard
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer

from heliograph.bus.traces import layout, mcap_index
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.writing import TraceWriter, part_of
from heliograph.core.errors import Refused
from tests.bus.traces.files import BLOB, DIGEST, SECOND, mcap_start, message, read, written


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
        path.write_bytes(mcap_start() + struct.pack("<BQ", 6, len(body)) + body)
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
        path.write_bytes(mcap_start() + chunk * chunks)
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
                path.write_bytes(mcap_start() + struct.pack("<BQ", code, claim) + b"x" * 50)
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
        monkeypatch.setattr(layout, "VERSION", 3)
        written(tmp_path / "a.mcap", [message(1)])
        monkeypatch.undo()
        with pytest.raises(Refused, match=r"version: expected at most 2, got 3.*pip install -U heliograph"):
            TraceReader(tmp_path / "a.mcap")
