from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from heliograph.bus.contract.resources import Condition, FederatedTask, Metadata, Model
from heliograph.bus.contract.weights_file import write
from heliograph.coordinator.kubernetes.documents import (
    CLOUD,
    MIRROR,
    OWNER,
    UID,
    custom_kind,
    mirror_of,
    request_document,
    shown_status,
)

ACCEPTED = Condition(type="Accepted", status="True", reason="Accepted", last_transition_time="now")
JOB = FederatedTask.model_validate({
    "metadata": {"name": "j", "uid": "r1", "createdBy": "alice", "labels": {"site": "a b", "tier": "x"},
                 "annotations": {"note": "n", UID: "u", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
    "spec": {"aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": [{"name": "w"}]},
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "reason": "R"}]},
})  # fmt: skip


def test_the_plural_is_kubernetes_own() -> None:
    assert custom_kind(FederatedTask).plural == "federatedtasks"


def test_a_request_has_the_annotations_of_people_and_the_uid() -> None:
    custom: dict[str, Any] = {
        "apiVersion": "edgeai.io/v1alpha1", "kind": "Model",
        "metadata": {
            "name": "m", "namespace": "team", "uid": "u1", "resourceVersion": "7", "labels": {"site": "berlin"},
            "annotations": {"note": "n", "kubectl.kubernetes.io/last-applied-configuration": "{}", CLOUD: "c",
                            UID: "forged"},
        },
        "spec": {"description": "d"}, "status": {"versions": []},
    }  # fmt: skip
    document = request_document(custom)
    assert document["metadata"] == {
        "name": "m", "namespace": "team", "labels": {"site": "berlin"}, "annotations": {"note": "n", UID: "u1"},
    }  # fmt: skip
    assert "status" not in document and document["spec"] == {"description": "d"}


def test_a_mirror_names_who_made_it_and_has_only_labels_that_kubernetes_takes() -> None:
    mirror = mirror_of(JOB, "team", "cloud-1")
    assert mirror["metadata"]["labels"] == {"tier": "x", MIRROR: "r1"}
    assert mirror["metadata"]["annotations"] == {"note": "n", OWNER: "alice", CLOUD: "cloud-1"}
    assert mirror["spec"]["aggregationWorker"]["model"] == {"name": "m"} and "status" not in mirror


def test_weights_leave_their_bytes_behind(tmp_path: Path) -> None:
    weights = write({"w": np.zeros(2, np.float32)}, tmp_path)
    assert weights.inline
    model = Model.model_validate({"metadata": {"name": "m"}, "spec": {"weights": weights.model_dump(mode="json")}})
    shown = mirror_of(model, "n", "c")["spec"]["weights"]
    assert shown == {"digest": weights.digest, "size": weights.size}


def test_each_condition_says_which_generation_it_tells_of() -> None:
    status = shown_status(FederatedTask, JOB, ACCEPTED, 4, {})
    assert [(each["type"], each["observedGeneration"]) for each in status["conditions"]] == [
        ("Ready", 4), ("Accepted", 4),
    ]  # fmt: skip
    assert status["observedGeneration"] == 4 and status["phase"] == "Running"


def test_a_condition_that_holds_still_keeps_its_time() -> None:
    before = {"conditions": [{"type": "Accepted", "status": "True", "lastTransitionTime": "then"}]}
    assert shown_status(FederatedTask, None, ACCEPTED, 1, before)["conditions"][0]["lastTransitionTime"] == "then"
    refused = ACCEPTED.model_copy(update={"status": "False"})
    assert shown_status(FederatedTask, None, refused, 1, before)["conditions"][0]["lastTransitionTime"] == "now"


def test_a_large_status_is_cut_and_says_so() -> None:
    conditions = [Condition(type=f"T{n}", status="True", reason="R", message="m" * 900) for n in range(300)]
    job = JOB.model_copy(update={"status": JOB.status.model_copy(update={"conditions": conditions})})
    status = shown_status(FederatedTask, job, ACCEPTED, 1, {})
    assert len(json.dumps(status)) <= 100_000
    assert status["shortened"]["status.conditions"] == 300 and status["phase"] == "Running"


def test_metadata_without_labels_is_fine() -> None:
    document = request_document({"metadata": {"name": "m", "namespace": "n", "uid": "u"}})
    assert document["metadata"]["labels"] == {} and Metadata.model_validate(document["metadata"]).name == "m"
