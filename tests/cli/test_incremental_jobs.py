"""``heliograph incremental-jobs``, and what ``watch`` and ``get`` show of such a job."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.learning_requests import LearnedModels, LearnedVersion
from heliograph.cli.app import run
from heliograph.cli.features.learning_columns import LEARNING
from heliograph.cli.printing.output import Passing
from heliograph.client import AsyncClient

VERDICT = {"champion": 0.5, "candidate": 0.9, "support": 40}
ROUND = {"round": 1, "models": {"m": {"decision": "refused", "reason": "worse", "verdict": VERDICT}}}


def _document(step: str = "waiting", round: int = 0, rounds: tuple[Any, ...] = ()) -> dict[str, Any]:
    return {
        "metadata": {"name": "j", "uid": "u", "creationTimestamp": "1970-01-12T13:46:00Z"},
        "spec": {"location": "cloud", "models": [{"model": {"name": "m"}}]},
        "status": {"phase": "Running", "loop": {"step": step, "round": round}, "rounds": list(rounds), "waiting": 3,
                   "metric": 0.9},
    }  # fmt: skip


def test_watch_shows_each_step_and_round_once() -> None:
    progress = LEARNING.progress("incremental-job", "j", ("Succeeded",))
    documents = [_document(), _document("training", 1), _document("training", 1), _document("waiting", 1, (ROUND,))]
    lines = [str(line) for each in documents for line in progress.lines(each) if not isinstance(line, Passing)]
    assert [line for line in lines if "incremental-job/j" not in line] == [
        "round 1 training", "round 1 m refused, accuracy 0.500 to 0.900: worse",
    ]  # fmt: skip


def test_the_row_of_a_job() -> None:
    assert LEARNING.row(_document("training", 2), 1_000_000.0)[:8] == [
        "j", "Running", "cloud", ["m"], "2", ["training"], "3", "0.900",
    ]  # fmt: skip


def test_the_row_of_a_job_on_edges_tells_how_far_they_are() -> None:
    document = _document()
    waiting = {"round": 3, "step": "waiting"}
    document["status"]["edges"] = {"edge-1": {"round": 4, "step": "training"}, "edge-2": waiting, "edge-3": waiting}
    assert LEARNING.row(document, 1_000_000.0)[4:6] == ["4", ["training", "waiting"]]


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, Any]]]:
    """Answer every request without a cluster, and return what was asked."""
    asked: list[tuple[str, str, dict[str, Any]]] = []
    made = LearnedModels(name="j", champions={"m": 2}, versions=[
        LearnedVersion(round=1, model="m", decision="deployed", version=2, digest="ab" * 32, accuracy=0.91),
    ])  # fmt: skip

    async def request(self: AsyncClient, resource: str, verb: str, document: dict[str, Any]) -> Any:
        asked.append((resource, verb, dict(document)))
        return made.model_dump(mode="json", by_alias=True, exclude_none=True) if verb == "models" else _document()

    async def nothing(self: AsyncClient, *_: object) -> AsyncClient:
        return self

    monkeypatch.setattr(AsyncClient, "request", request)
    monkeypatch.setattr(AsyncClient, "__aenter__", nothing)
    monkeypatch.setattr(AsyncClient, "__aexit__", nothing)
    return asked


@pytest.mark.parametrize("verb", ["training", "evaluation", "deployment"])
def test_a_step_is_asked_for_by_hand(
    verb: str, answered: list[tuple[str, str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    server = "nats://127.0.0.1:1"
    assert run(["incremental-jobs", verb, "incremental-jobs/j", "--dry-run", "--server", server]) == 0
    assert answered == [("incremental-jobs", verb, {"name": "j", "dry_run": True})]
    then = "round 1 begins: 3 labelled samples wait" if verb == "training" else "round 0 is waiting"
    assert f"incremental-job/j: {verb} would be asked for; {then}" in capsys.readouterr().out


def test_what_edges_have_made_by_themselves(
    answered: list[tuple[str, str, dict[str, Any]]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = LearnedModels(name="j", edges={"edge-1": {"m": "ab" * 32}}, versions=[
        LearnedVersion(round=3, model="m", decision="refused", digest="cd" * 32, reason="worse", edge="edge-1"),
    ])  # fmt: skip

    async def request(self: AsyncClient, resource: str, verb: str, document: dict[str, Any]) -> Any:
        return made.model_dump(mode="json", by_alias=True, exclude_none=True)

    monkeypatch.setattr(AsyncClient, "request", request)
    assert run(["incremental-jobs", "models", "j", "--server", "nats://127.0.0.1:1"]) == 0
    shown = capsys.readouterr().out
    assert "serving: m abababababab on edge-1" in shown
    assert "EDGE" in shown and "refused" in shown and "cdcdcdcdcdcd" in shown


def test_what_the_rounds_have_made(
    answered: list[tuple[str, str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["incremental-jobs", "models", "j", "--server", "nats://127.0.0.1:1"]) == 0
    shown = capsys.readouterr().out
    assert "serving: m version 2" in shown and "0.9100" in shown and "abababababab" in shown
