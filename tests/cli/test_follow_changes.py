"""``get -w``: through a new coordinator and a lost link nothing is told twice, and no deletion is missed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from heliograph.cli.resources import follow_changes as module
from heliograph.core.errors import Forbidden, Refused, Unreachable
from heliograph.following import ResourceChange


class _End(Exception): ...


def _model(name: str, uid: str = "1", version: str = "1") -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": version}}


class Scripted:
    """A client whose resources tell what a script says: changes, or an error that ends them.

    Attributes:
        asked: the version from which each call of ``changes`` goes on.
    """

    def __init__(self, *script: list[Any], present: tuple[str, ...] = ()) -> None:
        self._script = [*script]
        self._present = present
        self.asked: list[str] = []

    def resources(self, plural: str) -> Scripted:
        return self

    async def changes(self, *, since: str, selector: str) -> AsyncIterator[ResourceChange]:
        self.asked.append(since)
        for number, each in enumerate(self._script.pop(0)):
            if isinstance(each, Exception):
                raise each
            name, document = each
            yield ResourceChange(name, document, f"{len(self.asked)}-{number}")

    async def list(self, *, selector: str) -> list[dict[str, Any]]:
        return [_model(name) for name in self._present]


async def _told(client: Scripted, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(module, "RETRY", 0.0)
    told: list[str] = []
    with pytest.raises(_End):
        await module.follow_changes(
            client,
            "models",
            "",
            lambda event, document: told.append(f"{event} {document['metadata']['name']}"),  # type: ignore[arg-type]
        )
    return told


async def test_what_another_coordinator_does_not_remember_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [("a", _model("a")), ("b", _model("b")), Refused("expired")]
    again = [("c", _model("c", version="2")), ("c", _model("c", uid="2"))]
    second = [("a", _model("a")), ("c", _model("c")), *again, _End()]
    client = Scripted(first, second, present=("a", "c"))
    assert await _told(client, monkeypatch) == ["ADDED a", "ADDED b", "DELETED b", "ADDED c", "MODIFIED c", "ADDED c"]
    assert client.asked == ["", ""]


async def test_a_lost_link_is_said_once_and_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = [("a", _model("a")), ("a", None), ("gone", None), Unreachable("no answer")]
    client = Scripted(first, [Unreachable("no answer")], [("d", _model("d")), _End()])
    assert await _told(client, monkeypatch) == ["ADDED a", "DELETED a", "ADDED d"]
    assert client.asked == ["", "1-2", "1-2"]
    assert capsys.readouterr().err == "no answer; waiting\n"


@pytest.mark.parametrize("error", [Unreachable("x"), Forbidden("x"), Refused("bad-selector")])
async def test_what_fails_at_once_is_an_error(error: Exception) -> None:
    with pytest.raises(type(error)):
        await module.follow_changes(Scripted([error]), "models", "", lambda event, document: None)  # type: ignore[arg-type]
