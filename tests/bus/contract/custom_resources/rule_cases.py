"""For each rule of the custom resources a document that keeps it, and the same one with a change that breaks it."""

from __future__ import annotations

from typing import Any

from heliograph.bus.contract.custom_resources.rules import RULES

_MODEL = {"name": "one"}
_SCRIPT = {"model": _MODEL, "scriptBootFile": "serve.py"}
_FEDERATED = {"aggregationWorker": {"model": _MODEL}, "trainingWorkers": [{"name": "a"}, {"name": "b"}]}
_SERVICE = {"edgeWorker": _SCRIPT}
_LEARNING = {"models": [{"model": _MODEL, "workerSpec": {"trainScriptBootFile": "learn.py"}}]}
_PAIR = {"samples": {"name": "own"}, "workerSpec": {"trainScriptBootFile": "pair.py"}, "edge": {"model": _MODEL},
         "cloud": {"model": {"name": "two"}}}  # fmt: skip
_DIGEST = "0" * 64

CASES: list[tuple[str, int, str, dict[str, Any], dict[str, Any]]] = [
    ("Participants", 0, "FederatedTask", _FEDERATED, {"participants": {"count": 2, "all": True}}),
    ("Participants", 0, "FederatedTask", _FEDERATED, {"participants": {"count": 2, "fraction": 0.5}}),
    ("Participants", 1, "FederatedTask", {**_FEDERATED, "participants": {"all": True}},
     {"participants": {"all": True, "selection": {"strategy": "oort"}}}),
    ("EdgeSelection", 0, "JointInferenceService", _SERVICE, {"edges": {"all": False}}),
    ("FederatedTaskSpec", 0, "FederatedTask", _FEDERATED, {"quorum": 3}),
    ("FederatedTaskSpec", 0, "FederatedTask", _FEDERATED, {"quorum": 2, "participants": {"count": 1}}),
    ("MetricTarget", 0, "FederatedTask", {**_FEDERATED, "stop": {"target": {"metric": "loss", "atMost": 0.1}}},
     {"stop": {"target": {"metric": "loss"}}}),
    ("StopConditions", 0, "FederatedTask", {**_FEDERATED, "stop": {"uplinkBytes": 1000}}, {"stop": {}}),
    ("WorkerSpec", 0, "PairTrainingJob", _PAIR,
     {"workerSpec": {"trainScriptBootFile": "pair.py", "algorithm": {"name": "pair"}}}),
    ("DatasetSpec", 0, "Dataset", {}, {"url": "a.csv", "content": {"file": "a.csv", "digest": _DIGEST, "size": 1}}),
    ("DatasetSpec", 1, "Dataset", {"telemetry": {"devices": ["press-*"], "fields": ["x"]}}, {"url": "a.csv"}),
    ("DatasetContent", 0, "Dataset", {}, {"content": {"file": "..", "digest": _DIGEST, "size": 1}}),
    ("LearnedModel", 0, "IncrementalLearningJob", _LEARNING, {"models": [{"model": _MODEL, "workerSpec": {}}]}),
    ("IncrementalLearningJobSpec", 0, "IncrementalLearningJob", _LEARNING, {"models": _LEARNING["models"] * 2}),
    ("MetricDrop", 0, "IncrementalLearningJob", _LEARNING, {"train": {"any": [{"metricDrop": {"metric": "f1"}}]}}),
    ("Drift", 0, "IncrementalLearningJob", _LEARNING, {"train": {"drift": {"of": "features", "detector": "ddm"}}}),
    ("InferenceScript", 0, "JointInferenceService", _SERVICE, {"edgeWorker": {**_SCRIPT, "format": "onnx"}}),
    ("InferenceScript", 1, "JointInferenceService", _SERVICE, {"edgeWorker": {**_SCRIPT, "outputs": "logits"}}),
    ("InferenceScript", 2, "JointInferenceService", _SERVICE, {"edgeWorker": {**_SCRIPT, "algorithm": _MODEL}}),
    ("InferenceScript", 3, "JointInferenceService", _SERVICE, {"cloudWorker": {"model": _MODEL}}),
    ("LabelSchema", 0, "LabelQueue", {"labelSchema": {"type": "text"}}, {"labelSchema": {"type": "choices"}}),
    ("LabelSchema", 1, "LabelQueue", {"labelSchema": {"type": "number"}},
     {"labelSchema": {"type": "number", "low": 2, "high": 1}}),
    ("Tuning", 0, "PairTrainingJob", _PAIR, {"tuning": {"rule": "never"}}),
    ("Tuning", 1, "PairTrainingJob", _PAIR, {"tuning": {"accuracy": 0.9, "offload": 0.1}}),
    ("PairTrainingJobSpec", 0, "PairTrainingJob", _PAIR, {"workerSpec": {}}),
    ("PairTrainingJobSpec", 1, "PairTrainingJob", _PAIR,
     {"workerSpec": {"trainScriptBootFile": "pair.py", "dataset": {"name": "own"}}}),
    ("PairTrainingJobSpec", 2, "PairTrainingJob", _PAIR, {"cloud": {"model": _MODEL}}),
    ("PairTrainingJobSpec", 3, "PairTrainingJob", _PAIR, {"service": {"edgeWorker": {"scriptBootFile": "edge.py"}}}),
    ("PairTrainingJobSpec", 4, "PairTrainingJob", _PAIR,
     {"service": {"edgeWorker": {"scriptBootFile": "edge.py"}, "cloudWorker": {"scriptBootFile": "cloud.py"},
                  "hardSampleRule": {"name": "entropy"}}}),
]  # fmt: skip
"""Model, number of its rule, kind, spec, and the fields that break the rule."""


def document(kind: str, *specs: dict[str, Any]) -> dict[str, Any]:
    spec = {key: value for each in specs for key, value in each.items()}
    return {"apiVersion": "edgeai.io/v1alpha1", "kind": kind, "metadata": {"name": "one"}, "spec": spec}


def message(model: str, number: int) -> str:
    return RULES[model][number].message
