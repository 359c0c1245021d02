"""``heliograph pair-jobs``, and what ``get`` and ``watch`` show of such a job."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.pair_requests import PairedModel, PairModels
from heliograph.bus.contract.resources import PairFigures, SelectionFigures
from heliograph.cli.app import run
from heliograph.cli.features.pair_columns import PAIRS
from heliograph.client import AsyncClient

JOINT = {"accuracy": 0.95, "offload": 0.25, "calibrationError": 0.05}


def _document(step: str = "waiting", turn: int = 0, **status: Any) -> dict[str, Any]:
    spec = {"edge": {"model": {"name": "shallow"}}, "cloud": {"model": {"name": "deep"}}}
    return {
        "metadata": {"name": "j", "uid": "u", "creationTimestamp": "1970-01-12T13:46:00Z"}, "spec": spec,
        "status": {"phase": "Running", "step": step, "turn": turn, **status},
    }  # fmt: skip


def test_watch_shows_each_step_and_attempt_once() -> None:
    progress = PAIRS.progress("pair-job", "j", ("Succeeded",))
    documents = [_document(), _document("selecting", 1), _document("selecting", 1), _document("training-cloud", 2),
                 _document("training-cloud", 3, attempt=2), _document("done", 9)]  # fmt: skip
    lines = [str(line) for each in documents for line in progress.lines(each)]
    assert [line for line in lines if "pair-job/j" not in line] == [
        "selecting", "training-cloud", "training-cloud, attempt 2",
    ]  # fmt: skip


def test_the_row_of_a_job_before_and_after_it_was_measured() -> None:
    assert PAIRS.row(_document("selecting", 1), 1_000_000.0)[:9] == [
        "j", "Running", "selecting", "shallow", "deep", "", "", "", "",
    ]  # fmt: skip
    done = _document("done", 5, selected={"selected": 40}, figures={"after": JOINT}, service="j")
    assert PAIRS.row(done, 1_000_000.0)[:9] == [
        "j", "Running", "done", "shallow", "deep", "40", "0.950", "25.0%", "j",
    ]  # fmt: skip


@pytest.mark.parametrize("measured", [False, True])
def test_models_prints_what_was_made(
    measured: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = PairFigures.model_validate({
        "evaluation": "e" * 64, "tunedOn": 20, "measuredOn": 30, "before": {**JOINT, "offload": 0.9}, "after": JOINT,
        "parameters": [{"key": "value", "value": 0.712345}], "reached": False, "unmeasured": ["seven"],
    })  # fmt: skip
    models = [PairedModel(side="cloud", model="deep", digest="ab" * 32, version=2, samples=90)]
    made = PairModels(name="j", models=[*models, PairedModel(side="edge", model="shallow")])
    if measured:
        made = made.model_copy(update={"figures": figures, "selected": SelectionFigures(public=9, selected=4),
                                       "service": "j"})  # fmt: skip

    async def request(self: AsyncClient, resource: str, verb: str, document: dict[str, Any]) -> Any:
        assert (resource, verb, document) == ("pair-jobs", "models", {"name": "j"})
        return made.model_dump(mode="json", by_alias=True, exclude_none=True)

    async def nothing(self: AsyncClient, *_: object) -> AsyncClient:
        return self

    monkeypatch.setattr(AsyncClient, "request", request)
    monkeypatch.setattr(AsyncClient, "__aenter__", nothing)
    monkeypatch.setattr(AsyncClient, "__aexit__", nothing)
    assert run(["pair-jobs", "models", "j", "--server", "nats://127.0.0.1:1"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "deep 2 90" in out and "abababababab" in out
    for words in ("selected 4 of 9 public samples", "before tuning: accuracy 0.9500 with 90.0 % offloaded",
                  "after tuning: accuracy 0.9500 with 25.0 % offloaded", "value 0.7123", "did not reach",
                  "no sample to measure with: seven", "service: services/j"):  # fmt: skip
        assert (words in out) is measured, words
