"""Traces changed after their recording."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.event import Event, decode, encode
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.writing import TraceWriter
from heliograph.testing import TraceUnderTest

Edit = Callable[[str, int, Any], Any]
"""A function of a message's address, its number at the address from 1, and its payload, which it may change in place.
It returns False to leave the message out."""


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., TraceUnderTest]:
    """Return ``edited(trace, edit, attach=…)``, which returns the trace with changed payloads."""

    def write(source: TraceUnderTest, edit: Edit, attach: dict[str, bytes] | None = None) -> TraceUnderTest:
        path = tmp_path / "edited.mcap"
        counts: dict[str, int] = {}
        with TraceReader(source.path) as reader, TraceWriter(path, overwrite=True) as writer:
            for each in reader:
                number = counts[each.topic] = counts.get(each.topic, 0) + 1
                body = each.body
                if b"specversion" in body[:64]:
                    event = decode(body)
                    before = copy.deepcopy(event.data)
                    if edit(each.topic, number, event.data) is False:
                        continue
                    if event.data != before:  # else its signature stays, which covers the bytes
                        body = _encoded(event)
                elif edit(each.topic, number, None) is False:
                    continue
                writer.write(Recorded(each.topic, body, each.log_time, each.publish_time, each.headers, each.retained))
            for digest, data in (attach or {}).items():
                writer.attach(digest, data)
        return TraceUnderTest(path)

    return write


def _encoded(event: Event) -> bytes:
    return encode(event, "msgpack")
