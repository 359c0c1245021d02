"""The recount of all rounds, offline, from the counted updates; the results must have the same bits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from heliograph.bus.contract.payloads import Aggregation, ModelUpdate
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.federated_task import AggregationSpec
from heliograph.bus.contract.weights_file import TensorFile, dumps, origin
from heliograph.simulations.faults.deterministic_training import Array, initial_model, train
from heliograph.simulations.faults.evidence import Evidence
from heliograph.simulations.faults.job_chain import size_of
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.result_files import Result
from heliograph.workers.aggregation.round_inputs import Input, RoundStart
from heliograph.workers.algorithms import Algorithm, FedAvg, choose

Model = dict[str, Array]


def recount(evidence: Evidence) -> Iterator[str]:
    """Check that every closed round's result is, bit for bit, the algorithm's result on exactly the counted updates."""
    for job in evidence.jobs:
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        rounds = sorted((each for each in evidence.records if each.job_uid == uid), key=lambda each: each.round)
        updates = {(each.round, each.edge, each.weights.digest): each for each in evidence.updates
                   if each.job_uid == uid}  # fmt: skip
        with TemporaryDirectory() as directory:
            recounting = _Recounting(name, _algorithm(job), updates, evidence.samples, Path(directory))
            yield from recounting.run(rounds)


def _algorithm(job: Mapping[str, Any]) -> Algorithm:
    worker = job["spec"].get("aggregationWorker", {})
    spec = AggregationSpec.model_validate(worker.get("workerSpec", {}))
    return choose(spec.aggregation_algorithm, {each.key: each.value for each in spec.parameters})


class _Recounting:
    """The recount of one job's rounds, each based on the one before."""

    def __init__(
        self, name: str, algorithm: Algorithm, updates: Mapping[tuple[int, str, str], ModelUpdate],
        samples: Mapping[str, Array], directory: Path,
    ) -> None:  # fmt: skip
        self._name = name
        self._algorithm = algorithm
        self._updates = updates
        self._samples = samples
        self._directory = directory
        self._before = RoundStart()

    def run(self, rounds: list[Aggregation]) -> Iterator[str]:
        for closed in rounds:
            problems = list(self._round(closed))
            yield from (f"job {self._name}, round {closed.round}: {each}" for each in problems)
            if problems:
                return

    def _round(self, closed: Aggregation) -> Iterator[str]:
        if closed.model is None:
            yield "it has no model"
            return
        base = arrays_of(self._before.base) if self._before.base is not None else None
        inputs: dict[str, Input] = {}
        for edge, digest in sorted(closed.counted.items()):
            update = self._updates.get((closed.round, edge, digest))
            if base is None:
                arrays = initial_model(size_of(self._name))
            else:
                arrays = train(base, self._samples[edge], closed.round)
            made = dumps(arrays, origin(closed.job_uid, closed.round, edge))
            if update is None:
                yield f"the counted update of {edge}, {digest[:12]}, is not in the stream"
                return
            if hashlib.sha256(made).hexdigest() != digest:
                yield f"the counted update of {edge} is not the result of its data and its base"
                return
            inputs[edge] = Input(update.weights.inline or made, float(update.num_samples), metrics=update.metrics)
        if inputs:
            yield from self._check_result(closed, inputs, base)

    def _check_result(self, closed: Aggregation, inputs: Mapping[str, Input], base: Model | None) -> Iterator[str]:
        result = aggregate(
            inputs, self._algorithm, self._directory, threads=1, start=self._before, round=closed.round,
            asked=len(inputs), metadata=origin(closed.job_uid, closed.round),
        )  # fmt: skip
        for part, recorded, recounted in (
            ("model", closed.model, result.model), ("state", closed.state, result.state),
            ("downlink", closed.down, result.down),
        ):  # fmt: skip
            if _digest(recorded) != _digest(recounted):
                yield f"its {part} is {_digest(recorded)}, and the counted updates give {_digest(recounted)}"
                return
        yield from self._check_mean(result, inputs, base)
        self._before = RoundStart(base=self._file(result.model), state=self._file(result.state))

    def _check_mean(self, result: Result, inputs: Mapping[str, Input], base: Model | None) -> Iterator[str]:
        """Compare the model with a plain sum of whole arrays, if the algorithm is the mean."""
        model = self._file(result.model)
        if model is None or not (base is None or type(self._algorithm) is FedAvg):
            return
        found, plain = arrays_of(model), _weighted_mean(inputs)
        for key, array in plain.items():
            if array.tobytes() != found[key].tobytes():
                yield f"a plain sum in the edges' order gives different bits in {key}"

    def _file(self, ref: WeightsRef | None) -> Path | bytes | None:
        if ref is None or ref.inline is not None:
            return None if ref is None else ref.inline
        return self._directory / ref.digest


def _weighted_mean(inputs: Mapping[str, Input]) -> Model:
    total = sum(each.num_samples for each in inputs.values())
    found: Model = {}
    for edge in sorted(inputs):
        share = inputs[edge].num_samples / total
        for key, array in arrays_of(inputs[edge].source).items():
            part = array * np.float32(share) if array.dtype == np.float32 else array.astype(np.float64) * share
            found[key] = found[key] + part if key in found else part
    return {key: array if array.dtype == np.float32 else np.rint(array).astype(np.int64)
            for key, array in found.items()}  # fmt: skip


def arrays_of(source: Path | bytes) -> Model:
    """Return copies of the arrays of a safetensors file."""
    with TensorFile(source) as file:
        return {name: array.copy() for name, array in file.arrays().items()}


def _digest(ref: WeightsRef | None) -> str:
    return ref.digest[:12] if ref is not None else "none"
