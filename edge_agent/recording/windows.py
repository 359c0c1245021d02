"""Rows of several samples, one after the other, of one device. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

ITEM = 4
"""Bytes of a number."""


class Windows:
    """The samples of a device that are in no row yet, or will be in a further one.

    Args:
        channels: numbers of a sample.
        length: samples of a row.
        stride: samples from the begin of a row to that of the next.
        gap: seconds between two messages above which no row reaches over both.
    """

    def __init__(self, channels: int, length: int, stride: int | None = None, gap: float | None = None) -> None:
        self._row = channels * length
        self._step = channels * (stride if stride is not None else length)
        self._gap = gap
        self._kept = array("f")
        self._skip = 0
        """Numbers to come that are in no row, where the stride is larger than a row."""
        self._last: float | None = None

    def add(self, samples: array[float], time: float) -> Iterator[bytes]:
        """Take a message's samples. Yield the rows that end with one of them, as the machine's float32.

        Args:
            time: seconds since 1970 of the message.
        """
        if self._gap is not None and self._last is not None and abs(time - self._last) > self._gap:
            self._kept, self._skip = array("f"), 0
        self._last = time
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        self._kept.extend(samples[skipped:])
        begin = 0
        while len(self._kept) - begin >= self._row:
            yield self._kept[begin : begin + self._row].tobytes()
            begin += self._step
        self._skip += max(0, begin - len(self._kept))
        del self._kept[:begin]

    def state(self) -> tuple[bytes, int, float | None]:
        """Return what ``restore`` takes."""
        return self._kept.tobytes(), self._skip, self._last

    def restore(self, kept: bytes, skip: int, last: float | None) -> None:
        """Go on where ``state`` was taken."""
        self._kept = array("f", kept[: len(kept) // ITEM * ITEM])
        self._skip, self._last = skip, last
