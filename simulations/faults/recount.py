"""The results of all rounds again, offline, from the updates that were counted: they must be the same bits."""

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
from heliograph.simulations.faults.deterministic_training import Array, initial, trained
from heliograph.simulations.faults.evidence import Evidence
from heliograph.simulations.faults.job_chain import size_of
from heliograph.workers.aggregation.combine import Before, Input, Result, aggregate
from heliograph.workers.algorithms import Algorithm, FedAvg, choose

Model = dict[str, Array]


def recount(evidence: Evidence) -> Iterator[str]:
    """Every closed round's result is, bit for bit, what the algorithm makes of exactly the updates that it says were
    counted."""
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
    """One job's rounds, each on top of the one before."""

    def __init__(
        self, name: str, algorithm: Algorithm, updates: Mapping[tuple[int, str, str], ModelUpdate],
        samples: Mapping[str, Array], directory: Path,
    ) -> None:  # fmt: skip
        self._name = name
        self._algorithm = algorithm
        self._updates = updates
        self._samples = samples
        self._directory = directory
        self._before = Before()

    def run(self, rounds: list[Aggregation]) -> Iterator[str]:
        for closed in rounds:
            problems = list(self._round(closed))
            yield from (f"job {self._name}, round {closed.round}: {each}" for each in problems)
            if problems:
                return

    def _round(self, closed: Aggregation) -> Iterator[str]:
        if closed.model is None:
            yield "it left no model"
            return
        base = arrays_of(self._before.base) if self._before.base is not None else None
        inputs: dict[str, Input] = {}
        for edge, digest in sorted(closed.counted.items()):
            update = self._updates.get((closed.round, edge, digest))
            arrays = initial(size_of(self._name)) if base is None else trained(base, self._samples[edge], closed.round)
            made = dumps(arrays, origin(closed.job_uid, closed.round, edge))
            if update is None:
                yield f"the update of {edge} that was counted, {digest[:12]}, is not in the stream"
                return
            if hashlib.sha256(made).hexdigest() != digest:
                yield f"the update of {edge} that was counted is not what its data and its base make"
                return
            inputs[edge] = Input(update.weights.inline or made, float(update.num_samples), metrics=update.metrics)
        if inputs:
            yield from self._combined(closed, inputs, base)

    def _combined(self, closed: Aggregation, inputs: Mapping[str, Input], base: Model | None) -> Iterator[str]:
        result = aggregate(
            inputs, self._algorithm, self._directory, threads=1, before=self._before, round=closed.round,
            asked=len(inputs), metadata=origin(closed.job_uid, closed.round),
        )  # fmt: skip
        for part, said, made in (
            ("model", closed.model, result.model), ("state", closed.state, result.state),
            ("downlink", closed.down, result.down),
        ):  # fmt: skip
            if _digest(said) != _digest(made):
                yield f"its {part} is {_digest(said)}, and the counted updates make {_digest(made)}"
                return
        yield from self._plainly(result, inputs, base)
        self._before = Before(base=self._file(result.model), state=self._file(result.state))

    def _plainly(self, result: Result, inputs: Mapping[str, Input], base: Model | None) -> Iterator[str]:
        """Where the algorithm is the mean, it is summed a second time in the fewest words, whole arrays at once."""
        model = self._file(result.model)
        if model is None or not (base is None or type(self._algorithm) is FedAvg):
            return
        found, plain = arrays_of(model), _weighted_mean(inputs)
        for key, array in plain.items():
            if array.tobytes() != found[key].tobytes():
                yield f"a plain sum in the edges' order gives other bits in {key}"

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
    """The arrays of a safetensors file, copied out of it."""
    with TensorFile(source) as file:
        return {name: array.copy() for name, array in file.arrays().items()}


def _digest(ref: WeightsRef | None) -> str:
    return ref.digest[:12] if ref is not None else "none"
