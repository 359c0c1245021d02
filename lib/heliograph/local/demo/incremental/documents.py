"""The documents of the demo: a model, a label queue, a service of the edges alone, and the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heliograph.bus.contract.resources.base import WeightsRef

NAME, SEED = "digits", "digits-seed"
THRESHOLD = 0.92
"""Confidence below which an edge's answer counts as hard."""
NEW_SAMPLES = 80
"""Labelled samples after which a round begins."""


def _document(kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "edgeai.io/v1alpha1", "kind": kind, "metadata": {"name": NAME}, "spec": spec}


def model(weights: WeightsRef) -> dict[str, Any]:
    return _document("Model", {"framework": "numpy", "weights": weights.model_dump(mode="json", exclude_none=True)})


def queue(classes: int, version: int) -> dict[str, Any]:
    """Return the queue, whose labels tell so many digits apart."""
    schema = {"version": version, "classes": [str(digit) for digit in range(classes)], "question": "Which digit?"}
    return _document("LabelQueue", {"labelSchema": schema})


def service(edges: Sequence[str]) -> dict[str, Any]:
    return _document(
        "JointInferenceService",
        {
            "edgeWorker": {"model": {"name": NAME}, "scriptBootFile": "serve_digits.py"},
            "edges": {"names": list(edges)},
            "hardSampleRule": {"name": "threshold", "parameters": [{"key": "value", "value": THRESHOLD}]},
            "hardSamplesTo": NAME,
        },
    )


def job(rate: float) -> dict[str, Any]:
    """Return the job; a rate of learning that is far too high makes a candidate that the gate refuses."""
    worker = {
        "trainScriptBootFile": "learn_digits.py",
        "dataset": {"name": SEED},
        "parameters": [{"key": "rate", "value": rate}],
    }
    return _document(
        "IncrementalLearningJob",
        {
            "models": [{"model": {"name": NAME}, "workerSpec": worker}],
            "train": {"newSamples": NEW_SAMPLES},
            "evaluation": {"heldOut": 15},
            "gate": {"margin": -0.1, "confidence": 0.8, "leastSupport": 8},
            "deployment": {"canary": {"share": 0.5, "leastRequests": 20, "watchSeconds": 0}},
        },
    )
