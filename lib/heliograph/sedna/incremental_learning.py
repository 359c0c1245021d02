"""Sedna's IncrementalLearningJob as our job of that kind, the service whose hard samples it learns, and its labels."""

from __future__ import annotations

from typing import Any

from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD
from heliograph.sedna.fields import Fields
from heliograph.sedna.joint_inference import edge_part, model_of
from heliograph.sedna.settings import CLASSES, TRAIN_SCRIPT, Settings
from heliograph.sedna.triggers import gate, train_trigger
from heliograph.sedna.workers import cloud_of, note_unused, worker_of


def incremental_learning_job(spec: Fields, name: str, settings: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    """Return our documents. Raises Refused where a worker has no script, or no model is named."""
    deploy = spec.part("deploySpec")
    served = model_of(deploy) if deploy.tree.get("model") is not None else ""
    first = spec.reference("initialModel")
    model = served or first
    if not model:
        raise Refused("invalid", field=spec.at("deploySpec.model.name"), expected="the name of a model", got="nothing")
    if first and first != model:
        spec.drop("one model learns on: upload its weights as the first version of it, 'heliograph models upload "
                  f"{model} FILE'", "initialModel")  # fmt: skip
    data = spec.part("dataset")
    job: dict[str, Any] = {"models": [_learned(spec, model, data.label("name"), settings)]}
    _held_out(data, job)
    if trigger := train_trigger(spec.part("trainSpec").part("trigger")):
        job["train"] = trigger
    if rule := gate(deploy.part("trigger")):
        job["gate"] = rule
    spec.drop("the training script's worker evaluates, on samples that no training sees; its 'evaluate' adds metrics",
              "evalSpec")  # fmt: skip
    spec.drop("labels, shards and versions are in the cloud's stores, or with location: edge on the node", "outputDir",
              "credentialName")  # fmt: skip
    spec.drop_rest()
    service = edge_part(deploy, settings, model)
    service["hardSamplesTo"] = name
    found = [("JointInferenceService", name, service), ("IncrementalLearningJob", name, job)]
    if classes := [word.strip() for word in settings.get(CLASSES).split(",") if word.strip()]:
        return [("LabelQueue", name, {"labelSchema": {"classes": classes}}), *found]
    spec.note_changed("", f"the job learns labels of a LabelQueue called {name}, which Sedna has not: --set "
                      f"{CLASSES}=CLASS,CLASS adds it")  # fmt: skip
    return found


def _learned(spec: Fields, model: str, dataset: str, settings: Settings) -> dict[str, Any]:
    given = spec.part("trainSpec")
    given.take("trigger")
    worker = worker_of(given)
    node = cloud_of(given, worker, settings)
    note_unused(given, worker, "the job names the data set", dataset=worker.dataset)
    found = {
        "model": {"name": model},
        **({"nodeName": node} if node != CLOUD else {}),
        "workerSpec": {
            **({"dataset": {"name": dataset}} if dataset else {}),
            **worker.code("trainScript", TRAIN_SCRIPT, settings),
        },
    }
    given.drop_rest()
    return found


def _held_out(given: Fields, job: dict[str, Any]) -> None:
    share = given.number("trainProb")
    if share is not None:
        per_cent = round((1 - share) * 100)
        if 1 <= per_cent <= 90:
            job["evaluation"] = {"heldOut": per_cent}
        else:
            given.drop("1 to 90 per cent of the samples are held out", "trainProb")
    given.drop_rest()
