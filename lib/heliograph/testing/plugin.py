"""The pytest plugin: a fixture that finds recorded traces, and a readable difference where one is not met.

It is registered by the package; nothing but pytest is imported before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from heliograph.testing import TraceUnderTest

_SHOWN = 20


@pytest.fixture
def trace(request: pytest.FixtureRequest) -> Callable[[str | Path], TraceUnderTest]:
    """``trace("flaky.mcap")``: the trace of that name in the test's folder, in ``traces/`` there or in a folder above,
    or from pytest's root."""
    from heliograph.testing import trace

    root = request.config.rootpath

    def find(name: str | Path) -> TraceUnderTest:
        folders = [request.path.parent]
        folders += [each for each in folders[0].parents if each.is_relative_to(root)]
        places = [place for each in folders for place in (each / name, each / "traces" / name)]
        for place in places:
            if place.is_file():
                return trace(place)
        tried = ", ".join(dict.fromkeys(str(each.parent) for each in places))
        pytest.fail(f"there is no trace {name} in {tried}; 'heliograph trace record {name}' makes one")

    return find


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """What differs between ``run.published`` and ``run.recorded``, by topic and field."""
    if op != "==" or not isinstance(left, list) or not isinstance(right, list):
        return None
    if not any(type(each).__module__ == "heliograph.simulations.check.comparable" for each in (*left[:1], *right[:1])):
        return None
    from heliograph.simulations.check.compare import message_differences

    lines = [str(each) for each in message_differences(right, left)]
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return ["what was published is not what was recorded", *lines[:_SHOWN], *more]
