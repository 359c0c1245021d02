"""A blob comes whole or not at all, whatever its chunks, its holders and the cuts between them are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.arriving_blob import (
    END,
    NOBODY,
    NOT_HELD,
    PART,
    PLACE,
    REFUSED,
    SEQUENCE,
    WINDOW,
    ArrivingBlob,
    ChunkAsk,
    status,
)
from heliograph.bus.contract.resources import WeightsRef
from heliograph.core.errors import NobodyAnswers, NotHeld, Refused, Unreachable

CHUNK = 8


def _ref(content: bytes) -> WeightsRef:
    return WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))


class _Holder:
    """Sends what is asked for: an edge, or a bucket whose chunks lie at sequences with gaps between them."""

    def __init__(self, content: bytes, chunk: int, batches: bool) -> None:
        self.content = content
        self.chunk = chunk
        self.batches = batches
        self.asked: list[ChunkAsk] = []

    def messages(self, ask: ChunkAsk) -> list[tuple[dict[str, str], bytes]]:
        self.asked.append(ask)
        first = (ask.sequence + 2) // 3 if self.batches else ask.place
        found = []
        for number in range(first, first + ask.count):
            if part := self.content[number * self.chunk : (number + 1) * self.chunk]:
                found.append(({PLACE: str(number), **({SEQUENCE: str(3 * number + 1)} if self.batches else {})}, part))
        if self.batches:
            found.append((status(END if found else NOT_HELD), b""))
        return found


def _receive(blob: ArrivingBlob, holder: _Holder, most: int | None = None) -> bool:
    """Receive at most so many messages; return whether the blob is complete."""
    coming: list[tuple[dict[str, str], bytes]] = []
    with blob:
        while not blob.complete:
            if (ask := blob.next_ask()) is not None:
                coming += holder.messages(ask)
            assert sum(PLACE in headers for headers, _ in coming) <= WINDOW
            if most is not None and most <= 0:
                return False
            most = None if most is None else most - 1
            headers, part = coming.pop(0)
            if blob.expects(headers, len(part)):
                blob.take(part)
        blob.prove()
    return True


@given(st.binary(max_size=40 * CHUNK), st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=4))
def test_it_goes_on_after_every_cut_with_any_holder(content: bytes, cuts: list[tuple[int, bool]]) -> None:
    with TemporaryDirectory() as directory:
        target = Path(directory) / "blob"
        ended = False
        for most, batches in cuts:
            holder = _Holder(content, CHUNK, batches)
            try:
                ended = ended or _receive(ArrivingBlob(_ref(content), target, CHUNK, "x", batches), holder, most)
            except NotHeld:  # another holder's sequence led past a chunk: it begins anew
                assert batches
        if not ended:
            assert _receive(ArrivingBlob(_ref(content), target, CHUNK, "x", False), _Holder(content, CHUNK, False))
        assert target.read_bytes() == content
        assert [path.name for path in Path(directory).iterdir()] == ["blob"]


@given(st.integers(1, 200), st.integers(1, 30))
def test_only_what_is_missing_is_asked_for_again(chunks: int, cut: int) -> None:
    content = bytes(range(256)) * (chunks * CHUNK // 256 + 1)
    content = content[: chunks * CHUNK]
    with TemporaryDirectory() as directory:
        target, holder = Path(directory) / "blob", _Holder(content, CHUNK, False)
        ended = _receive(ArrivingBlob(_ref(content), target, CHUNK, "x", False), holder, cut)
        again = _Holder(content, CHUNK, False)
        if not ended:
            assert _receive(ArrivingBlob(_ref(content), target, CHUNK, "x", False), again)
        asked = [place for ask in again.asked for place in range(ask.place, ask.place + ask.count)]
        assert asked == list(range(min(cut, chunks), chunks)) if not ended else asked == []


@pytest.mark.parametrize("batches", [False, True])
def test_other_bytes_of_the_same_length_never_get_the_name(tmp_path: Path, batches: bool) -> None:
    content, target = bytes(5 * CHUNK), tmp_path / "blob"
    with pytest.raises(Unreachable, match="damaged"):
        _receive(ArrivingBlob(_ref(content), target, CHUNK, "x", batches), _Holder(b"?" + content[1:], CHUNK, batches))
    assert list(tmp_path.iterdir()) == []
    assert _receive(ArrivingBlob(_ref(content), target, CHUNK, "x", batches), _Holder(content, CHUNK, batches))


@pytest.mark.parametrize(
    ("headers", "size", "error", "words"),
    [
        ({PLACE: "0"}, CHUNK + 1, Refused, "more than that"),
        ({PLACE: "0"}, CHUNK - 1, Refused, "another length"),
        ({PLACE: "0"}, 0, Refused, "another length"),
        ({PLACE: "1"}, CHUNK, Unreachable, "missing"),
        ({PLACE: "-1"}, CHUNK, Unreachable, "missing"),
        ({PLACE: "0" * 5000}, CHUNK, Unreachable, "missing"),
        ({}, CHUNK, Unreachable, "missing"),
        ({PLACE: "0", "Status": "404"}, CHUNK, NotHeld, "not in edge edge-1"),
        (status(NOBODY), 0, NobodyAnswers, "nobody answers for edge edge-1"),
        (status(REFUSED), 0, Unreachable, "desired document does not name it"),
        (status("418"), 0, Unreachable, "edge edge-1 answers 418"),
        (status(END), 0, Unreachable, "edge edge-1 answers 204"),
    ],
)
def test_a_message_that_is_not_the_next_chunk_ends_the_attempt(
    tmp_path: Path, headers: dict[str, str], size: int, error: type[Exception], words: str
) -> None:
    with ArrivingBlob(_ref(bytes(3 * CHUNK)), tmp_path / "blob", CHUNK, "edge edge-1", False) as blob:
        assert blob.next_ask() == ChunkAsk(0, 0, 2, 0, True)
        with pytest.raises(error, match=words):
            blob.expects(headers, size)
    assert not (tmp_path / "blob").exists()


class _ThinHolder(_Holder):
    """An edge behind a thin link: it sends chunks in parts, or is of an earlier version and sends whole ones."""

    def __init__(self, content: bytes, chunk: int, parts: list[int]) -> None:
        super().__init__(content, chunk, False)
        self.parts = parts
        self.sent = 0

    def messages(self, ask: ChunkAsk) -> list[tuple[dict[str, str], bytes]]:
        if not self.parts:
            return super().messages(ask)
        self.asked.append(ask)
        sizes = iter(self.parts * 1000)
        pieces = list(ask.pieces(self.chunk, len(self.content), lambda: next(sizes)))
        self.sent += sum(length for _, _, length in pieces)
        return [(headers, self.content[start : start + length]) for headers, start, length in pieces]


@given(
    st.integers(0, 6 * 4096),
    st.lists(st.tuples(st.integers(0, 12), st.lists(st.integers(1, 5000), max_size=4)), max_size=4),
)
def test_it_goes_on_within_a_chunk_whether_holders_send_parts_or_not(
    size: int, cuts: list[tuple[int, list[int]]]
) -> None:
    content = bytes(number * 31 % 251 for number in range(size))
    with TemporaryDirectory() as directory:
        target, ended = Path(directory) / "blob", False
        for most, parts in cuts:
            holder = _ThinHolder(content, 4096, parts)
            ended = ended or _receive(ArrivingBlob(_ref(content), target, 4096, "x", False), holder, most)
        if not ended:
            part = Path(directory) / "blob.part"
            had = part.stat().st_size if part.exists() else 0
            holder = _ThinHolder(content, 4096, [1500])
            assert _receive(ArrivingBlob(_ref(content), target, 4096, "x", False), holder)
            assert holder.sent == len(content) - had
        assert target.read_bytes() == content


@pytest.mark.parametrize(
    ("part", "size", "error"),
    [("0", 1023, Refused), ("1", 2000, Unreachable), ("-1", 2000, Unreachable), ("x", 2000, Unreachable),
     ("9" * 30, 2000, Unreachable), ("0", 4097, Refused), ("0", 0, Refused)],
)  # fmt: skip
def test_a_part_that_is_tiny_or_elsewhere_ends_the_attempt(
    tmp_path: Path, part: str, size: int, error: type[Exception]
) -> None:
    with ArrivingBlob(_ref(bytes(3 * 4096)), tmp_path / "blob", 4096, "edge edge-1", False) as blob:
        blob.next_ask()
        with pytest.raises(error):
            blob.expects({PLACE: "0", PART: part}, size)
