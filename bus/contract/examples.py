"""Example requests with their answers, as ``topics.md`` prints them. They work as they stand, one after the other.

A test sends each to a cluster with the edge ``edge-1`` and a service ``flowers``: a real answer has what is printed
here, and more. Values that a run decides are compared by their type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract.topics import DEFAULT_ROOT

LOGIN = "operator"
"""The login in the examples' reply topics: the one of whoever runs ``heliograph up``."""
REPLY_TO = f"{DEFAULT_ROOT}/reply/{LOGIN}/1"
DEVICE_REPLY_TO = f"{DEFAULT_ROOT}/reply/device/1"
SERVICE = "flowers"


@dataclass(frozen=True)
class Example:
    """A request below the root, its body, and a part of the answer."""

    topic: str
    body: dict[str, Any]
    answer: dict[str, Any]


def _resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "edgeai.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


_MODELS = {name: _resource("Model", name, {"framework": "numpy"}) for name in ("shallow", "deep")}
_DATASET = _resource("Dataset", "petals", {"url": "/data/petals.npz", "format": "npz", "nodeName": "edge-1"})
_ALGORITHM = _resource("Algorithm", "own-average", {"description": "our plug-in"})
_QUEUE = _resource("LabelQueue", SERVICE, {
    "labelSchema": {"type": "choice", "classes": ["setosa", "virginica"]}, "overlap": 2,
})  # fmt: skip
_LEASE, _TASK = "5f1c0c0a5b0e4c35a6c9a1d2e3f40516", "0" * 64
_CLASS = {"type": "choice", "value": "setosa"}
_KEY = "U" + "A" * 55
"""In place of a node's public key."""
_SERVICE = _resource("JointInferenceService", SERVICE, {
    "edgeWorker": {"model": {"name": "shallow"}, "scriptBootFile": "edge.py"},
    "cloudWorker": {"model": {"name": "deep"}, "scriptBootFile": "cloud.py"},
    "deadlineSeconds": 0.5,
})  # fmt: skip
_LEARNING = _resource("IncrementalLearningJob", SERVICE, {
    "models": [{"model": {"name": "shallow"}, "workerSpec": {"trainScriptBootFile": "learn.py"}}],
})  # fmt: skip
_PAIR = _resource("PairTrainingJob", SERVICE, {
    "samples": {"name": "petals"}, "workerSpec": {"trainScriptBootFile": "pair.py"},
    "edge": {"model": {"name": "shallow"}}, "cloud": {"model": {"name": "deep"}},
})  # fmt: skip


def _job(rounds: int) -> dict[str, Any]:
    return _resource("FederatedTask", "petals", {
        "aggregationWorker": {"model": {"name": "shallow"}, "workerSpec": {"aggregationAlgorithm": "FedAvg"}},
        "trainingWorkers": [{"name": "train", "workerSpec": {
            "dataset": {"name": "petals"}, "trainScriptBootFile": "train.py", "frameworkType": "numpy"}}],
        "participants": {"all": True},
        "rounds": rounds,
    })  # fmt: skip


def _ok(result: Any) -> dict[str, Any]:
    return {"ok": True, "result": result}


def _error(**fields: Any) -> dict[str, Any]:
    return {"ok": False, "error": {**fields, "message": "…"}}


def _head(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "generation": 1}, **more}


def _example(request: str, body: dict[str, Any], answer: dict[str, Any]) -> Example:
    return Example(f"request/{request}", {**body, "reply_to": REPLY_TO}, answer)


def _named(name: str) -> dict[str, Any]:
    return {"name": name}


def _watched(plural: str, kind: str) -> Example:
    answer = {**_ok([{"kind": kind}]), "gone": [], "version": "1-7", "more": False}
    return _example(f"{plural}/watch", {"since": "1-0", "limit": 100}, answer)


def _catalog(
    plural: str, document: dict[str, Any], changed: dict[str, Any], *own: Example
) -> list[Example]:
    """Return examples of all verbs of a kind that nothing runs, with its ``own`` ones."""
    kind, name = document["kind"], document["metadata"]["name"]
    spec = {**document["spec"], **changed}
    return [
        _example(f"{plural}/create", document, _ok(_head(kind, name, spec=document["spec"]))),
        _example(f"{plural}/list", {"limit": 100}, {**_ok([{"kind": kind}]), "version": "1-7"}),
        _example(f"{plural}/get", _named(name), _ok(_head(kind, name))),
        _watched(plural, kind),
        _example(f"{plural}/update", {**document, "spec": spec}, _ok({"kind": kind, "spec": spec})),
        *own,
        _example(f"{plural}/delete", _named(name), _ok({"kind": kind})),
    ]


_PENDING = {"phase": "Pending"}
REQUESTS: tuple[Example, ...] = (
    *_catalog("algorithms", _ALGORITHM, {"description": "our plug-in, second edition"}),
    *_catalog("datasets", _DATASET, {"url": "/data/petals-2.npz"},
              _example("datasets/versions", _named("petals"), _ok({"name": "petals", "versions": []}))),
    *(_example("models/create", each, _ok(_head("Model", name))) for name, each in _MODELS.items()),
    _example("models/list", {}, _ok([{"kind": "Model"}])),
    _watched("models", "Model"),
    _example("models/get", _named("shallow"), _ok(_head("Model", "shallow", status={"versions": []}))),
    _example("models/update", _resource("Model", "shallow", {"framework": "numpy", "description": "for the edge"}),
             _ok({"kind": "Model", "spec": {"description": "for the edge"}})),
    _example("jobs/create", _job(3), _ok(_head("FederatedTask", "petals", status=_PENDING))),
    _example("jobs/list", {}, _ok([{"kind": "FederatedTask"}])),
    _watched("jobs", "FederatedTask"),
    _example("jobs/get", _named("petals"), _ok(_head("FederatedTask", "petals", spec={"rounds": 3}))),
    _example("jobs/status", _named("petals"), _ok({"phase": "Pending", "round": 0})),
    _example("jobs/update", _job(5), _ok({"kind": "FederatedTask", "spec": {"rounds": 5}})),
    _example("jobs/join", {**_named("petals"), "edge": "edge-1", "num_samples": 100},
             _error(code="invalid", field="dataset", got="petals")),
    _example("jobs/weights", {**_named("petals"), "digest": "0" * 64},
             _error(code="not-joined", field="name", got="petals")),
    _example("jobs/upload", {**_named("petals"), "digest": "0" * 64, "size": 4, "offset": 0, "data": "AAAA"},
             _error(code="not-joined", field="name", got="petals")),
    _example("jobs/dataset", _named("petals"), _ok({"name": "petals", "edgeCount": 0, "samples": 0, "edges": []})),
    _example("jobs/models", _named("petals"), _ok({"name": "petals", "model": "shallow", "round": 0, "versions": []})),
    _example("jobs/training", {**_named("petals"), "limit": 100},
             _ok({"name": "petals", **_PENDING, "round": 0, "rounds": 5, "history": [], "edges": []})),
    _example("jobs/evaluation", _named("petals"), _ok({"name": "petals", "metrics": {}, "rounds": []})),
    _example("jobs/deployment", _named("petals"), _ok({"name": "petals", "model": "shallow", "versions": []})),
    _example("jobs/stop", {**_named("petals"), "dry_run": True}, _ok({"status": {"phase": "Stopped"}})),
    _example("jobs/stop", _named("petals"), _ok({"kind": "FederatedTask", "status": {"phase": "Stopped"}})),
    _example("jobs/start", _named("petals"), _ok({"kind": "FederatedTask", "status": _PENDING})),
    _example("jobs/delete", _named("petals"), _ok({"kind": "FederatedTask"})),
    _example("incremental-jobs/create", _LEARNING,
             _ok(_head("IncrementalLearningJob", SERVICE, status=_PENDING))),
    _example("incremental-jobs/list", {}, _ok([{"kind": "IncrementalLearningJob"}])),
    _watched("incremental-jobs", "IncrementalLearningJob"),
    _example("incremental-jobs/get", _named(SERVICE), _ok(_head("IncrementalLearningJob", SERVICE))),
    _example("incremental-jobs/status", _named(SERVICE), _ok(_PENDING)),
    _example("incremental-jobs/update", {**_LEARNING, "spec": {**_LEARNING["spec"], "attempts": 2}},
             _ok({"kind": "IncrementalLearningJob", "spec": {"attempts": 2}})),
    _example("incremental-jobs/models", _named(SERVICE), _ok({"name": SERVICE, "versions": []})),
    _example("incremental-jobs/training", _named(SERVICE), _ok({"kind": "IncrementalLearningJob"})),
    _example("incremental-jobs/evaluation", _named(SERVICE), _error(code="too-early", field="name")),
    _example("incremental-jobs/deployment", _named(SERVICE), _error(code="too-early", field="name")),
    _example("incremental-jobs/stop", _named(SERVICE), _ok({"status": {"phase": "Stopped"}})),
    _example("incremental-jobs/start", _named(SERVICE), _ok({"status": _PENDING})),
    _example("incremental-jobs/delete", _named(SERVICE), _ok({"kind": "IncrementalLearningJob"})),
    _example("pair-jobs/create", _PAIR, _ok(_head("PairTrainingJob", SERVICE, status=_PENDING))),
    _example("pair-jobs/list", {}, _ok([{"kind": "PairTrainingJob"}])),
    _watched("pair-jobs", "PairTrainingJob"),
    _example("pair-jobs/get", _named(SERVICE), _ok(_head("PairTrainingJob", SERVICE))),
    _example("pair-jobs/status", _named(SERVICE), _ok(_PENDING)),
    _example("pair-jobs/update", {**_PAIR, "spec": {**_PAIR["spec"], "attempts": 2}},
             _ok({"kind": "PairTrainingJob", "spec": {"attempts": 2}})),
    _example("pair-jobs/models", _named(SERVICE),
             _ok({"name": SERVICE, "models": [{"side": "cloud", "model": "deep"}, {"side": "edge"}]})),
    _example("pair-jobs/stop", _named(SERVICE), _ok({"status": {"phase": "Stopped"}})),
    _example("pair-jobs/start", _named(SERVICE), _ok({"status": _PENDING})),
    _example("pair-jobs/delete", _named(SERVICE), _ok({"kind": "PairTrainingJob"})),
    _example("services/create", _SERVICE, _ok(_head("JointInferenceService", SERVICE, status=_PENDING))),
    _example("services/list", {}, _ok([{"kind": "JointInferenceService"}])),
    _watched("services", "JointInferenceService"),
    _example("services/get", _named(SERVICE), _ok(_head("JointInferenceService", SERVICE))),
    _example("services/status", _named(SERVICE), _ok({**_PENDING, "total": {"requests": 0}})),
    _example("services/update", {**_SERVICE, "spec": {**_SERVICE["spec"], "deadlineSeconds": 1.0}},
             _ok({"kind": "JointInferenceService", "spec": {"deadlineSeconds": 1.0}})),
    _example("services/stop", _named(SERVICE), _ok({"status": {"phase": "Stopped"}})),
    _example("services/start", _named(SERVICE), _ok({"status": _PENDING})),
    _example("labels/create", _QUEUE, _ok(_head("LabelQueue", SERVICE, status={"waiting": 0}))),
    _example("labels/list", {}, _ok([{"kind": "LabelQueue"}])),
    _watched("labels", "LabelQueue"),
    _example("labels/get", _named(SERVICE), _ok(_head("LabelQueue", SERVICE))),
    _example("labels/update", {**_QUEUE, "spec": {**_QUEUE["spec"], "overlap": 1}},
             _ok({"kind": "LabelQueue", "spec": {"overlap": 1}})),
    _example("labels/claim", {**_named(SERVICE), "labeller": "anna", "count": 4}, _ok({"tasks": [], "waiting": 0})),
    _example("labels/renew", {**_named(SERVICE), "lease": _LEASE}, _error(code="unknown-lease", field="lease")),
    _example("labels/submit", {**_named(SERVICE), "lease": _LEASE, "result": _CLASS, "lead_time": 2.5},
             _error(code="unknown-lease", field="lease")),
    _example("labels/skip", {**_named(SERVICE), "lease": _LEASE, "reason": "blurred"},
             _error(code="unknown-lease", field="lease")),
    _example("labels/release", {**_named(SERVICE), "lease": _LEASE}, _error(code="unknown-lease", field="lease")),
    _example("labels/propose", {**_named(SERVICE), "task": _TASK, "prediction": {
        "model": "big", "score": 0.97, "result": _CLASS}}, _error(code="unknown-task", field="task")),
    _example("labels/sample", {**_named(SERVICE), "task": _TASK, "offset": 0},
             _error(code="unknown-task", field="task")),
    _example("labels/tasks", {**_named(SERVICE), "phase": "conflict"}, _ok({"tasks": []})),
    _example("labels/delete", _named(SERVICE), _ok({"kind": "LabelQueue"})),
    _example("models/versions", _named("shallow"), _ok({"name": "shallow", "aliases": {}, "versions": []})),
    _example("models/evaluation", _named("shallow"), _ok({"name": "shallow", "versions": []})),
    _example("models/deployment", _named("shallow"), _ok({"name": "shallow"})),
    _example("models/register", {**_named("shallow"), "weights": {"digest": "0" * 64, "size": 4, "bucket": "models"},
                                 "metrics": {"accuracy": 0.97}, "deploy": False},
             _error(code="bad-weights", field="weights")),
    _example("models/rollout", {**_named("shallow"), "version": 1, "canary": {"share": 0.1, "leastRequests": 200}},
             _error(code="no-version", field="version", got="1")),
    _example("models/alias", {**_named("shallow"), "alias": "champion", "version": 1},
             _error(code="no-version", field="version", got="1")),
    _example("models/rollback", _named("shallow"), _error(code="no-version", field="to")),
    _example("models/export", _named("shallow"), _error(code="no-version")),
    _example("models/collect", {"dry_run": True}, _ok({"dry_run": True, "items": [], "size": 0, "more": False})),
    _example("models/key", {}, _ok({"publicKey": "…", "keyId": "…"})),
    _example("models/delete", _named("deep"), _error(code="in-use", field="name")),
    _example("edges/list", {"selector": "site=berlin,!spare"}, _ok([])),
    _example("edges/list", {}, _ok([{"kind": "Edge", "metadata": {"name": "cloud"}}])),
    _watched("edges", "Edge"),
    _example("edges/get", _named("edge-1"), _ok({"kind": "Edge", "metadata": {"name": "edge-1"}})),
    _example("edges/delete", _named("edge-1"), _error(code="online", field="name", got="edge-1")),
    _example("edges/revoke", _named("edge-9"), _error(code="not-found", field="name", got="edge-9")),
    _example("invitations/create", {"kind": "Invitation", "metadata": {"name": "edge-7"}, "spec": {"key": _KEY}},
             _ok({"kind": "Invitation", "spec": {"seconds": 900, "nodes": 1}})),
    _example("invitations/list", {}, _ok([{"kind": "Invitation"}])),
    _watched("invitations", "Invitation"),
    _example("invitations/get", _named("edge-7"), _ok({"kind": "Invitation"})),
    _example("invitations/update", {"kind": "Invitation", "metadata": {"name": "edge-7"}, "spec": {"key": _KEY}},
             _ok({"kind": "Invitation"})),
    _example("invitations/enroll", {**_named("edge-7"), "edge": "edge-7", "key": _KEY, "at": 1_800_000_000,
                                    "signature": "A" * 86}, _error(code="bad-invitation", field="signature")),
    _example("invitations/renew", {"token": "a.b.c", "at": 1_800_000_000, "signature": "A" * 86},
             _error(code="bad-token")),
    _example("invitations/revoke", {**_named("edge-7"), "dry_run": True}, _ok({"name": "edge-7", "edges": []})),
    _example("invitations/delete", _named("edge-7"), _ok({"kind": "Invitation"})),
    _example("users/create", {"kind": "User", "metadata": {"name": "alice"},
                              "spec": {"grants": [{"project": "default", "scope": "submitter"}]}},
             _ok({"kind": "User", "metadata": {"name": "alice"}})),
    _example("users/list", {}, _ok([{"kind": "User"}])),
    _watched("users", "User"),
    _example("users/get", _named("alice"), _ok({"kind": "User", "metadata": {"name": "alice"}})),
    _example("users/update", {"kind": "User", "metadata": {"name": "alice"},
                              "spec": {"grants": [{"project": "default", "scope": "admin"}]}},
             _ok({"kind": "User", "metadata": {"name": "alice"}})),
    _example("users/enroll", {**_named("alice"), "key": _KEY, "at": 1_800_000_000, "signature": "A" * 86},
             _error(code="bad-invitation", field="name")),
    _example("users/renew", {"token": "a.b.c", "at": 1_800_000_000, "signature": "A" * 86}, _error(code="bad-token")),
    _example("users/token", {"seconds": 86_400}, _error(code="not-enrolled", field="caller", got="operator")),
    _example("users/delete", _named("alice"), _ok({"kind": "User"})),
    _example("quarantines/list", {}, _ok([])),
    _example("quarantines/watch", {"since": "1-0"}, {**_ok([]), "gone": [], "version": "1-0", "more": False}),
    _example("quarantines/get", _named("petals"), _error(code="not-found", field="name", got="petals")),
    _example("quarantines/delete", _named("petals"), _error(code="not-found", field="name", got="petals")),
    _example("services/delete", _named(SERVICE), _ok({"kind": "JointInferenceService"})),
)  # fmt: skip
"""A request of every resource and verb, in an order in which each finds what it needs."""


def _inference(given: Any, answer: dict[str, Any], **more: Any) -> Example:
    return Example(f"inference/{SERVICE}/request", {"input": given, **more, "reply_to": DEVICE_REPLY_TO}, answer)


_ANSWER = {"result": "setosa", "scores": [0.9, 0.1], "by": "edge", "degraded": False, "seconds": 0.001}
INFERENCE: tuple[Example, ...] = (
    _inference([5.1, 3.5, 1.4, 0.2], _ANSWER, deadline=0.5),
    _inference({"dtype": "float32", "shape": [4], "data": "MzOjQAAAYEAzM7M/zcxMPg=="}, _ANSWER),
    _inference({"text": "five sepals, short petals"}, _ANSWER),
    _inference({"columns": {"sepal length": 5.1, "colour": "blue", "width": None}}, _ANSWER),
    _inference({"dtype": "float32", "shape": [5], "data": "AAAAAA=="}, {"error": {
        "code": "invalid", "field": "input.data", "expected": "20 bytes for float32 of shape (5,)", "got": "4 bytes",
        "message": "…"}}),
)  # fmt: skip
"""Requests to a service on a node's broker, in each form of ``input`` that needs nothing but NumPy."""
