"""Following all resources of a kind: what a client tells after lost hints, another coordinator, and a late start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from heliograph.bus.transport import Message
from heliograph.core.errors import Refused
from heliograph.following import Page, ResourceChange, follow

Document = dict[str, Any]


def _document(name: str, version: int, uid: str = "u") -> Document:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version)}}


class Coordinator:
    """Pages and answers to ``watch`` as the test sets them; a hint comes before each request but the first."""

    def __init__(self, *answers: list[Page] | Document | Refused) -> None:
        self._answers = [*answers]
        self.asked: list[str] = []

    async def pages(self, *, selector: str = "") -> AsyncIterator[Page]:
        found = self._next("list")
        assert isinstance(found, list)
        for page in found:
            yield page

    async def changed_since(self, version: str, *, selector: str = "") -> Document:
        found = self._next(version)
        assert isinstance(found, dict)
        return found

    def _next(self, asked: str) -> list[Page] | Document:
        self.asked.append(asked)
        found = self._answers.pop(0)
        if isinstance(found, Refused):
            raise found
        return found


class Hints(AsyncIterator[Message]):
    """One hint, and another after each wait that ran out."""

    def __init__(self) -> None:
        self._left = 2

    async def __anext__(self) -> Message:
        if not self._left:
            self._left = 2
            await asyncio.Event().wait()
        self._left -= 1
        return Message("status/models/x", b"")


async def _followed(coordinator: Coordinator, number: int, since: str = "") -> list[ResourceChange]:
    changes = follow(coordinator, Hints(), "", since)
    async with asyncio.timeout(60):
        found = [await anext(changes) for _ in range(number)]
    await changes.aclose()  # type: ignore[attr-defined]
    return found


def _answer(version: str, *documents: Document, gone: tuple[str, ...] = (), more: bool = False) -> Document:
    return {"result": [*documents], "gone": [*gone], "version": version, "more": more}


A, B = _document("a", 1), _document("b", 2)


async def test_each_resource_then_each_change_and_nothing_twice() -> None:
    newer = _document("a", 5)
    coordinator = Coordinator(
        [Page([A], "1-2", True), Page([B], "1-3")], _answer("1-3", B), _answer("1-4", newer, more=True),
        _answer("1-5", gone=("b", "never-seen")),
    )  # fmt: skip
    assert await _followed(coordinator, 4) == [
        ResourceChange("a", A, ""),
        ResourceChange("b", B, "1-2"),
        ResourceChange("a", newer, "1-4"),
        ResourceChange("b", None, "1-5"),
    ]
    assert coordinator.asked == ["list", "1-2", "1-3", "1-4"]


async def test_after_another_coordinator_has_taken_over_what_is_no_longer_there_is_gone() -> None:
    made_anew = _document("a", 1, uid="another")
    coordinator = Coordinator([Page([A, B], "1-2")], Refused("expired"), [Page([made_anew], "2-1")])
    found = await _followed(coordinator, 4)
    assert [(each.name, each.document) for each in found[2:]] == [("a", made_anew), ("b", None)]
    assert found[-1].version == "2-1"


async def test_who_begins_in_the_middle_learns_of_deletions_or_that_they_are_not_known() -> None:
    assert await _followed(Coordinator(_answer("1-9", B, gone=("a",))), 2, since="1-7") == [
        ResourceChange("b", B, "1-7"), ResourceChange("a", None, "1-9")
    ]  # fmt: skip
    with pytest.raises(Refused) as refused:
        await _followed(Coordinator(Refused("expired")), 1, since="1-7")
    assert refused.value.code == "expired"
