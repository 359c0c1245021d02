"""Where the rows of a data set come from that its edge records by itself: the messages of the node's devices."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from heliograph.bus.contract.resources.base import Document, ShortText

MOST_CHANNELS = 64
MAX_LENGTH = 65_536
MAX_VALUES = 1 << 18
"""Numbers of one row: 1 MiB."""
MAX_TICKS = 1000
"""Rows that one old value may still be in."""
DevicePattern = Annotated[str, StringConstraints(pattern=r"^[-a-z0-9*?]{1,63}$")]
FieldPath = Annotated[
    str, StringConstraints(max_length=256, pattern=r"^([a-z0-9][-a-z0-9]{0,62}/)?[^/\x00-\x1f\x7f]+$")
]
"""Keys and numbers of places, with dots between: ``vibration.x``, ``axes.0``. ``*`` stands for each element of a list,
``.`` for the whole message. ``thermometer/t`` is the field ``t`` of that device's messages."""


class SampleWindow(Document):
    """A row is so many samples, one after the other, of one device.

    Attributes:
        length: samples in a row.
        stride: samples from the begin of a row to that of the next; without it ``length``.
        gap_seconds: time between two messages of a device above which no row reaches over both.
    """

    length: Annotated[int, Field(ge=1, le=MAX_LENGTH, strict=True)]
    stride: Annotated[int, Field(ge=1, le=MAX_LENGTH, strict=True)] | None = None
    gap_seconds: Annotated[float, Field(gt=0, le=31 * 86400)] | None = None


class TimeJoin(Document):
    """A sample is what several devices have told last, at fixed times.

    Attributes:
        every_seconds: between two samples.
        stale_seconds: age from which a value is too old; a sample that would have one is left out. Without it ten times
            ``every_seconds``.
    """

    every_seconds: Annotated[float, Field(ge=0.001, le=86400)]
    stale_seconds: Annotated[float, Field(gt=0, le=31 * 86400)] | None = None

    @model_validator(mode="after")
    def _few_ticks(self) -> Self:
        if self.stale_seconds is not None and self.stale_seconds > MAX_TICKS * self.every_seconds:
            raise ValueError(f"expected staleSeconds of at most {MAX_TICKS} times everySeconds")
        return self


class RowLabel(Document):
    """What a row is, told by a field of the same device's messages, or of another device: ``terminal/state``.

    Attributes:
        classes: the labels; a row's is the number of its place, from 0. Without them a label is a number.
        within_seconds: time between a row and its label, at most. A row without one in that time is left out.
        rule: ``nearest``: the label next to the row's end in time, before or after it; ``last``: the newest one before
            the row's end, as for a state that holds until another one is told.
    """

    field: FieldPath
    classes: Annotated[list[ShortText], Field(max_length=1000)] = Field(default_factory=list)
    within_seconds: Annotated[float, Field(ge=0, le=31 * 86400)] = 0.0
    rule: Literal["nearest", "last"] = "nearest"

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("expected classes that differ")
        return self


class KeptRows(Document):
    """How much an edge keeps. Beyond it the oldest rows go, an eighth of it at a time.

    Attributes:
        megabytes: room on the disk, in 2^20 bytes; a version that a worker still reads needs its own.
        rows: number of rows.
        days: age of a row.
    """

    megabytes: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 64
    rows: Annotated[int, Field(ge=8, le=1_000_000_000, strict=True)] | None = None
    days: Annotated[float, Field(gt=0, le=3650)] | None = None


class TelemetrySource(Document):
    """Rows that each edge records of its devices' messages (``event/telemetry/<edge>/<device>``).

    A worker gets them as ``x``, float32, rows × channels or rows × length × channels; ``time``, seconds since 1970; and
    with ``label`` ``y``, one for each row.

    Attributes:
        devices: names of devices, with ``*`` and ``?``; any of them. With ``join`` the fields name the devices.
        fields: the channels of a sample, in their order. A field that holds a list has so many samples.
        window: makes rows of several samples; without it a message is a row, and a field a number.
        join: makes samples of several devices; each field then names its device.
        every_seconds: between two versions, at least.
        forward: False: the messages of these devices are not sent to the cloud.
    """

    devices: Annotated[list[DevicePattern], Field(min_length=1, max_length=64)] = Field(default_factory=lambda: ["*"])
    fields: Annotated[list[FieldPath], Field(min_length=1, max_length=MOST_CHANNELS)]
    window: SampleWindow | None = None
    join: TimeJoin | None = None
    label: RowLabel | None = None
    keep: KeptRows = Field(default_factory=KeptRows)
    every_seconds: Annotated[float, Field(ge=1, le=86400)] = 60.0
    forward: bool = True

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.fields)) < len(self.fields):
            raise ValueError("expected fields that differ")
        if self.window is not None and self.window.length * len(self.fields) > MAX_VALUES:
            raise ValueError(f"expected a window of at most {MAX_VALUES} numbers: length times fields")
        named = [each for each in self.fields if "/" in each]
        row = (self.window.length if self.window is not None else 1) * len(self.fields) * 4 + 16
        if row * 8 > self.keep.megabytes << 20:
            raise ValueError(f"expected keep.megabytes of {(row * 8 >> 20) + 1} or more: room for eight rows")
        if self.join is None and named:
            raise ValueError(f"expected fields without a device, or join: {named[0]} names one")
        if self.join is not None and len(named) < len(self.fields):
            raise ValueError("expected DEVICE/FIELD in each of fields, since join takes several devices")
        if self.join is not None and self.devices != ["*"]:
            raise ValueError("expected either devices or join, whose fields name the devices")
        if self.join is not None and self.label is not None and "/" not in self.label.field:
            raise ValueError("expected DEVICE/FIELD in label.field, since a joined row is of no one device")
        return self


class RecordedRows(Document):
    """What an edge counts while it records a data set.

    Attributes:
        recorded: rows since the recording began.
        dropped: rows that went because of ``keep``.
        unlabelled: rows that were left out because no label came.
        unreadable: messages that gave no sample, or no label: a field that is missing or no number, say.
        waiting: rows that wait for their label.
    """

    recorded: int = 0
    dropped: int = 0
    unlabelled: int = 0
    unreadable: int = 0
    waiting: int = 0
