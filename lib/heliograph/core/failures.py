"""Failures in handling one message, report, record or resource: they end nothing but its own handling."""

from __future__ import annotations

import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from heliograph.core.errors import HeliographError, Refused, first_error

DEFECT = "not handled, by a defect of this program"
"""Words in each line about an error that nobody expected. Simulations look for them."""
MAX_KINDS = 1024
"""Kinds of failures whose numbers are remembered."""


def sentence_of(error: BaseException, about: str = "") -> str:
    """Return a line about an error: an expected one in its own words, a defect with its type and place in the code."""
    error = first_error(error)
    if isinstance(error, Refused) or (isinstance(error, HeliographError) and not about):
        return str(error)
    head = f"{about}: " if about else ""
    if isinstance(error, HeliographError):
        return f"{head}{error}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {'/'.join(frames[-1].filename.split('/')[-3:])}:{frames[-1].lineno}" if frames else ""
    text = f" ({str(error)[:300]})" if str(error) else ""
    return f"{head}{DEFECT}: {type(error).__name__}{text}{place}"


def is_milestone(number: int) -> bool:
    """Return whether a number is 1, 10, 100, …: whoever says only those makes a few lines of a flood."""
    return str(number).rstrip("0") == "1"


class Failures:
    """Counts failures, and says the 1st, 10th, 100th, … of each kind: a flood of them is one line.

    Args:
        say: called with a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._kinds: OrderedDict[str, int] = OrderedDict()
        self.count = 0

    def add(self, about: str, error: Exception) -> bool:
        """Count a failure; return whether it is the first of its kind. ``about`` names the message, report, record or
        resource."""
        self.count += 1
        line = sentence_of(error, about)
        kind = f"{about} {error.code} {error.field} {error.expected}" if isinstance(error, Refused) else line
        number = self._kinds[kind] = self._kinds.pop(kind, 0) + 1
        if len(self._kinds) > MAX_KINDS:
            self._kinds.popitem(last=False)
        if is_milestone(number):
            self._say(line if number == 1 else f"{line} ({number} times)")
        return number == 1

    @contextmanager
    def contain(self, about: str) -> Iterator[None]:
        """Contain a refusal or a defect in the body. Errors that another attempt may mend are raised."""
        try:
            yield
        except Refused as error:
            self.add(about, error)
        except HeliographError:
            raise
        except Exception as error:
            if isinstance(first_error(error), HeliographError) and not isinstance(first_error(error), Refused):
                raise
            self.add(about, error)
