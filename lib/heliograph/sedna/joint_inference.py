"""Sedna's JointInferenceService as ours."""

from __future__ import annotations

from typing import Any

from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD
from heliograph.sedna.fields import Fields
from heliograph.sedna.hard_examples import hard_sample_rule
from heliograph.sedna.settings import CLOUD_SCRIPT, EDGE_SCRIPT, Settings
from heliograph.sedna.workers import Worker, cloud_of, edge_of, note_unused, worker_of


def joint_inference_service(spec: Fields, name: str, settings: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    """Return our JointInferenceService. Raises Refused where a worker has no script or no model."""
    found = edge_part(spec.part("edgeWorker"), settings)
    if spec.tree.get("cloudWorker") is not None:
        given = spec.part("cloudWorker")
        worker = worker_of(given)
        node = cloud_of(given, worker, settings)
        found["cloudWorker"] = {
            "model": {"name": model_of(given)},
            **({"nodeName": node} if node != CLOUD else {}),
            **_code(given, worker, CLOUD_SCRIPT, settings),
        }
        given.drop_rest()
    spec.drop_rest()
    return [("JointInferenceService", name, found)]


def edge_part(given: Fields, settings: Settings, model: str = "") -> dict[str, Any]:
    """Return what a service's spec says of its edges: worker, rule, and where they are.

    Args:
        model: the one that is served; without it the part names it.
    """
    worker = worker_of(given)
    found: dict[str, Any] = {
        "edgeWorker": {
            "model": {"name": model or model_of(given)}, **_code(given, worker, EDGE_SCRIPT, settings),
        }
    }  # fmt: skip
    if (rule := hard_sample_rule(given.part(_mining_of(given)))) is not None:
        found["hardSampleRule"] = rule
    if edge := edge_of(given, worker, settings):
        found["edges"] = {"names": [edge]}
    given.drop_rest()
    return found


def _mining_of(given: Fields) -> str:
    """Return what the rule is called: Sedna's first version has another name for it."""
    return "hardExampleAlgorithm" if "hardExampleAlgorithm" in given.tree else "hardExampleMining"


def _code(given: Fields, worker: Worker, setting: str, settings: Settings) -> dict[str, Any]:
    version = worker.framework.pop("frameworkVersion", "")
    note_unused(given, worker, "an inference worker runs with what its node has installed, and needs no samples",
                frameworkVersion=version, dataset=worker.dataset)  # fmt: skip
    return worker.code("script", setting, settings)


def model_of(given: Fields) -> str:
    """Return the name of a worker's model. Raises Refused where there is none."""
    part = given.part("model")
    name = part.label("name")
    if not name:
        raise Refused("invalid", field=part.at("name"), expected="the name of a model", got="nothing")
    part.drop("workers get a new version as soon as it is deployed", "hotUpdateEnabled", "pollPeriodSeconds")
    part.drop_rest()
    return name
