"""Schedules of five fields, in UTC: minute, hour, day of the month, month, day of the week (POSIX crontab)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from heliograph.core.errors import Refused

_BOUNDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}
_NAMES = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "weekday": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
_YEARS = 28
"""Years that are searched for the next time: after 28 the weekdays of leap years repeat."""
FORM = "five fields, minute hour day month weekday, each *, N, N-M, */N or a list of these: 0 3 * * 1-5"


@dataclass(frozen=True)
class Cron:
    """A schedule. Where day and weekday are both restricted, either is enough, as crontab has it."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Return the schedule that a text describes. Raise Refused naming the field."""
        words = text.split()
        if len(words) != len(_BOUNDS):
            raise Refused("invalid", field="cron", expected=FORM, got=text)
        found = {name: _values(name, word) for name, word in zip(_BOUNDS, words, strict=True)}
        weekdays = frozenset(day % 7 for day in found["weekday"])
        schedule = cls(found["minute"], found["hour"], found["day"], found["month"], weekdays,
                       words[2].startswith("*"), words[4].startswith("*"))  # fmt: skip
        if schedule.next_after(0.0) is None:
            raise Refused("invalid", field="cron", expected="a day that some month has", got=text)
        return schedule

    def next_after(self, time: float) -> float | None:
        """Return the first time of the schedule after ``time``, in seconds since 1970; None where there is none."""
        at = datetime.fromtimestamp(time, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        last = at.year + _YEARS
        while at.year <= last:
            if at.month not in self.months:
                at = (at.replace(day=1, hour=0, minute=0) + timedelta(days=32)).replace(day=1)
            elif not self._is_day(at):
                at = at.replace(hour=0, minute=0) + timedelta(days=1)
            elif at.hour not in self.hours:
                at = at.replace(minute=0) + timedelta(hours=1)
            elif at.minute not in self.minutes:
                at += timedelta(minutes=1)
            else:
                return at.timestamp()
        return None

    def _is_day(self, at: datetime) -> bool:
        in_month, in_week = at.day in self.days, at.isoweekday() % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return in_month and in_week
        return in_month or in_week


def _values(field: str, word: str) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        found.update(_range(field, part))
    return frozenset(found)


def _range(field: str, part: str) -> range:
    low, high = _BOUNDS[field]
    span, slash, step_text = part.partition("/")
    step = int(step_text) if step_text.isascii() and step_text.isdigit() else 0
    if slash and not 1 <= step <= high:
        raise _refused(field, part)
    if span == "*":
        return range(low, (6 if field == "weekday" else high) + 1, step or 1)
    first_text, dash, last_text = span.partition("-")
    first = _number(field, first_text, part)
    last = _number(field, last_text, part) if dash else (high if slash else first)
    if not low <= first <= last <= high:
        raise _refused(field, part)
    return range(first, last + 1, step or 1)


def _number(field: str, text: str, part: str) -> int:
    names = _NAMES.get(field, ())
    if text.lower() in names:
        return names.index(text.lower()) + _BOUNDS[field][0]
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise _refused(field, part)
    return int(text)


def _refused(field: str, part: str) -> Refused:
    low, high = _BOUNDS[field]
    return Refused("invalid", field=f"cron, {field}", expected=f"*, N, N-M, */N or a list of these, {low} to {high}",
                   got=part)  # fmt: skip
