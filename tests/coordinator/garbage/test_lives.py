"""Which versions and close records have come to the end of their life, and which blobs a document names."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pytest
from pydantic import Field

from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import (
    Dataset,
    DatasetIndex,
    FederatedTask,
    Metadata,
    Model,
    ModelVersion,
    Resource,
    WeightsRef,
)
from heliograph.bus.contract.resources.base import Document
from heliograph.bus.contract.resources.dataset import DatasetStatus
from heliograph.bus.contract.resources.model import AliasMove, ModelSpec, ModelStatus
from heliograph.coordinator.features.federated.old_rounds import old_rounds
from heliograph.coordinator.garbage.lives import Lives
from heliograph.coordinator.garbage.references import named_blobs
from heliograph.coordinator.garbage.versions import superfluous_versions
from heliograph.core.errors import Refused

NOW = "2026-03-01T00:00:00.000000Z"


def _weights(number: int) -> WeightsRef:
    return WeightsRef(digest=f"{number:064x}", size=10, bucket="models")


def _model(versions: int, keep: int | None = None, **status: Any) -> Model:
    made = [ModelVersion(version=number, weights=_weights(number)) for number in range(1, versions + 1)]
    return Model(metadata=Metadata(name="m"), spec=ModelSpec(keep_versions=keep),
                 status=ModelStatus(versions=made, **status))  # fmt: skip


def _gone(model: Model, keep: int = 3, edges: tuple[str, ...] = ("edge-1",), used: tuple[int, ...] = ()) -> list[int]:
    digests = {_weights(number).digest for number in used}
    return [each.version for each in superfluous_versions(model, edges, digests, keep)]


def test_the_newest_versions_stay() -> None:
    assert _gone(_model(5)) == [1, 2]
    assert _gone(_model(3)) == _gone(_model(0)) == []


def test_a_model_may_state_its_own_number() -> None:
    assert _gone(_model(5, keep=1)) == [1, 2, 3]  # a rollback would go back to 4
    assert _gone(_model(5, keep=10)) == []
    with pytest.raises(Refused, match="keepVersions"):
        parse_resource({"kind": "Model", "metadata": {"name": "m"}, "spec": {"keepVersions": 0}})


def test_what_is_deployed_named_or_would_be_named_again_is_never_taken() -> None:
    deployed = _model(9, aliases={"champion": 2, "favourite": 3})
    assert _gone(deployed) == [4, 5, 6]  # a rollback would go back to 1
    bound = _model(9, aliases={"canary": 4}, bindings={"canary": ["edge-7"]})
    assert _gone(bound) == [1, 2, 3, 5, 6]
    moves = [AliasMove(alias="champion", version=8, was=1), AliasMove(alias="champion", version=9, was=5)]
    assert _gone(_model(9, aliases={"champion": 9}, moves=moves)) == [1, 2, 3, 4, 6]  # 5 is what a rollback names


def test_weights_that_another_resource_uses_keep_their_version() -> None:
    assert _gone(_model(9), used=(4,)) == [1, 2, 3, 5, 6]


def _task(name: str, phase: str, round: int = 0, ended: str = "") -> FederatedTask:
    task = parse_resource({"kind": "FederatedTask", "metadata": {"name": name, "uid": f"uid-{name}"},
                           "spec": {"aggregationWorker": {"model": {"name": "m"}},
                                    "trainingWorkers": [{"name": "w"}]}})  # fmt: skip
    assert isinstance(task, FederatedTask)
    status = task.status.model_copy(update={"phase": phase, "round": round, "completion_time": ended})
    return task.model_copy(update={"status": status})


def test_close_records_of_an_ended_job_stay_for_some_days_and_of_a_running_one_the_newest() -> None:
    tasks = [_task("old", "Succeeded", 2, "2026-01-01T00:00:00.000000Z"),
             _task("fresh", "Failed", 2, "2026-02-27T00:00:00.000000Z"),
             _task("runs", "Running", 1500), _task("odd", "Stopped", 1)]  # fmt: skip
    keys = ["uid-old.1", "uid-old.2", "uid-old.end", "uid-fresh.1", "uid-odd.1", "uid-runs.500", "uid-runs.501",
            "uid-gone.1", "uid-new.1"]  # fmt: skip
    found = dict(old_rounds(keys, tasks, {"uid-gone"}, NOW, Lives()))
    assert [*found] == ["uid-old.1", "uid-old.2", "uid-old.end", "uid-runs.500", "uid-gone.1"]
    assert found["uid-old.1"] == "job old ended 30 days ago or earlier"
    assert found["uid-runs.500"] == "job runs has 1000 newer ones"
    assert found["uid-gone.1"] == "its job was deleted"


def test_a_document_names_its_references_and_the_digests_that_its_owner_wrote() -> None:
    spec = {"weights": {"digest": "a" * 64, "size": 3, "bucket": "models"}, "description": "d" * 64}
    model = parse_resource({"kind": "Model", "metadata": {"name": "m"}, "spec": spec})
    assert named_blobs(model) == {"a" * 64, "d" * 64}
    versions = _model(2).model_copy(update={"spec": ModelSpec()})
    assert named_blobs(versions) == {_weights(1).digest, _weights(2).digest}
    recorded = _model(0, moves=[AliasMove(alias="champion", version=1, by="b" * 64)])
    assert named_blobs(recorded) == set()  # a digest by itself in a status is a record


class _Shelf(Document):
    best: dict[str, list[WeightsRef | None]] = Field(default_factory=dict)
    anything: Any = None


class _Shelves(Resource):
    """A kind of a package that Heliograph does not know."""

    plural: ClassVar[str] = "shelves"

    kind: Literal["Shelves"] = "Shelves"
    spec: _Shelf = Field(default_factory=_Shelf)
    status: _Shelf = Field(default_factory=_Shelf)


def test_references_are_found_at_any_depth_of_any_kind() -> None:
    status = _Shelf(best={"edge-1": [None, _weights(3)]}, anything=[{"deep": _weights(4)}])
    shelves = _Shelves(metadata=Metadata(name="s"), spec=_Shelf(best={"x": [_weights(1)]}), status=status)
    assert named_blobs(shelves) == {_weights(number).digest for number in (1, 3, 4)}
    index = DatasetIndex(name="d", digest="c" * 64)
    data = Dataset(metadata=Metadata(name="d"), status=DatasetStatus(edges={"edge-1": index}))
    assert named_blobs(data) == set()


def test_lives_are_settings_of_the_coordinator() -> None:
    assert Lives.parse(["versions=5", "ended-days=7"]) == Lives(versions=5, ended_days=7)
    for text, words in (("rounds=1", "a name of versions, open-rounds, ended-days, blob-hours"),
                        ("versions=0", "expected a number from 1"), ("versions=-1", "keep versions")):  # fmt: skip
        with pytest.raises(Refused, match=words):
            Lives.parse([text])
