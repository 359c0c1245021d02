"""Sedna's FederatedLearningJob as our FederatedTask."""

from __future__ import annotations

from typing import Any

from heliograph.core.errors import Refused
from heliograph.core.names import CLOUD
from heliograph.sedna.fields import Fields
from heliograph.sedna.settings import NODE, ROUNDS, TRAIN_SCRIPT, Settings
from heliograph.sedna.values import typed
from heliograph.sedna.workers import cloud_of, edge_of, note_unused, worker_of

_ROUNDS = "exit_round"
_QUORUM = "participants_count"


def federated_task(spec: Fields, name: str, settings: Settings) -> list[tuple[str, str, dict[str, Any]]]:
    """Return our FederatedTask. Raises Refused where a worker has no script."""
    found = _aggregation(spec.part("aggregationWorker"), settings)
    nodes: set[str] = set()
    workers = [_training_worker(each, number, nodes, settings)
               for number, each in enumerate(spec.parts("trainingWorkers"))]  # fmt: skip
    if not workers:
        raise Refused("invalid", field=spec.at("trainingWorkers"), expected="at least one worker", got="none")
    found["trainingWorkers"] = workers
    spec.drop("training starts from the model's deployed version: upload its weights with 'heliograph models upload "
              f"{found['aggregationWorker']['model']['name']} FILE'", "pretrainedModel")  # fmt: skip
    spec.drop("weights travel in events, and large ones by the object store of the broker", "transmitter")
    spec.drop_rest()
    return [("FederatedTask", name, found)]


def _aggregation(given: Fields, settings: Settings) -> dict[str, Any]:
    worker = worker_of(given)
    model = given.reference("model")
    if not model:
        raise Refused("invalid", field=given.at("model.name"), expected="the name of a model", got="nothing")
    aggregation: dict[str, Any] = {"model": {"name": model}}
    if (name := given.label("name")) != "":
        aggregation["name"] = name
    if (node := cloud_of(given, worker, settings)) != CLOUD:
        aggregation["nodeName"] = node
    found: dict[str, Any] = {"aggregationWorker": aggregation}
    lowered = {key.lower(): key for key in worker.parameters}
    rounds = typed(settings.get(ROUNDS)) or worker.parameters.pop(lowered.get(_ROUNDS, ""), None)
    if rounds is not None:
        found["rounds"] = rounds
    if (quorum := worker.parameters.pop(lowered.get(_QUORUM, ""), None)) is not None:
        found["quorum"] = quorum
    for key in worker.parameters:
        given.note_dropped(worker.path, f"parameter {key}: FedAvg takes none; another algorithm is named as "
                           "aggregationWorker.workerSpec.aggregationAlgorithm, with its own")  # fmt: skip
    note_unused(given, worker, "the cloud's worker aggregates, and reserves nothing; an algorithm of one's own is a "
                "package's entry point", scriptBootFile=worker.script, scriptDir=worker.directory,
                dataset=worker.dataset, resources=worker.resources, **worker.framework)  # fmt: skip
    given.drop_rest()
    return found


def _training_worker(given: Fields, number: int, nodes: set[str], settings: Settings) -> dict[str, Any]:
    worker = worker_of(given)
    found: dict[str, Any] = {"name": given.label("name") or f"worker-{number + 1}"}
    named = given.reference("dataset")
    dataset = named or worker.dataset
    note_unused(given, worker, "the worker names a data set already", dataset=named and worker.dataset)
    node = edge_of(given, worker, settings)
    if node and node in nodes:
        given.note_changed(worker.node_path, f"left out: another worker names {node}, and one edge sends one update a "
                           f"round. It runs on a further edge with its data set; name one by --set {NODE}NODE=EDGE, "
                           "or merge the two data sets")  # fmt: skip
    elif node:
        nodes.add(node)
        found["nodeName"] = node
    code = worker.code("trainScript", TRAIN_SCRIPT, settings)
    found["workerSpec"] = {**({"dataset": {"name": dataset}} if dataset else {}), **code}
    given.drop_rest()
    return found
