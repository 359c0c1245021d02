"""The pytest plugin: a fixture that finds recorded traces, and a readable report of differences.

The package registers it. It imports nothing but pytest until a test uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from heliograph.testing import TraceUnderTest

_MAX_LINES = 20


@pytest.fixture
def trace(request: pytest.FixtureRequest) -> Callable[[str | Path], TraceUnderTest]:
    """Return ``trace("flaky.mcap")``, which finds a trace in the test's folder, in a folder above it up to pytest's
    root, or in ``traces/`` of one of them."""
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
        pytest.fail(f"there is no trace {name} in {tried}; record one with 'heliograph trace record {name}'")

    return find


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an ``async def`` test that uses the fixture ``trace``. A plugin for coroutines that is installed, such as
    pytest-asyncio, comes before this one; pytest alone would refuse the test."""
    if "trace" not in pyfuncitem.fixturenames:
        return None
    import asyncio
    import inspect

    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = [name for name in inspect.signature(function).parameters if name in pyfuncitem.funcargs]
    asyncio.run(function(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Return the differences between ``run.published`` and ``run.recorded`` by topic and field."""
    if op != "==" or not isinstance(left, list) or not isinstance(right, list):
        return None
    if not any(type(each).__module__ == "heliograph.simulations.check.comparable" for each in (*left[:1], *right[:1])):
        return None
    from heliograph.simulations.check.compare import message_differences

    lines = [str(each) for each in message_differences(right, left)]
    more = [f"and {len(lines) - _MAX_LINES} more"] if len(lines) > _MAX_LINES else []
    return ["the published messages differ from the recorded ones", *lines[:_MAX_LINES], *more]
