"""The global models again, offline, from the updates that were counted: they must be the same bits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from heliograph.bus.contract.payloads import Aggregation, ModelUpdate
from heliograph.bus.contract.weights_file import TensorFile, dumps, origin
from heliograph.simulations.faults.deterministic_training import Array, initial, trained
from heliograph.simulations.faults.evidence import Evidence
from heliograph.simulations.faults.job_chain import size_of
from heliograph.workers.aggregation.blocks import Input, aggregate
from heliograph.workers.algorithms import choose

Model = dict[str, Array]


def recount(evidence: Evidence) -> Iterator[str]:
    """Every closed round's model is, bit for bit, the mean of exactly the updates it says were counted."""
    for job in evidence.jobs:
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        rounds = sorted((each for each in evidence.records if each.job_uid == uid), key=lambda each: each.round)
        updates = {(each.round, each.edge, each.weights.digest): each for each in evidence.updates
                   if each.job_uid == uid}  # fmt: skip
        yield from _job(name, rounds, updates, evidence.samples)


def _job(
    name: str, rounds: list[Aggregation], updates: Mapping[tuple[int, str, str], ModelUpdate],
    samples: Mapping[str, Array],
) -> Iterator[str]:  # fmt: skip
    base: Model | None = None
    for closed in rounds:
        what = f"job {name}, round {closed.round}"
        if closed.model is None:
            yield f"{what}: it left no model"
            return
        files: dict[str, bytes] = {}
        weights: dict[str, int] = {}
        for edge, digest in sorted(closed.counted.items()):
            update = updates.get((closed.round, edge, digest))
            arrays = initial(size_of(name)) if base is None else trained(base, samples[edge], closed.round)
            made = dumps(arrays, origin(closed.job_uid, closed.round, edge))
            if update is None:
                yield f"{what}: the update of {edge} that was counted, {digest[:12]}, is not in the stream"
                return
            if hashlib.sha256(made).hexdigest() != digest:
                yield f"{what}: the update of {edge} that was counted is not what its data and its base make"
                return
            files[edge] = update.weights.inline or made
            weights[edge] = int(update.num_samples)
        if files:
            digest, base = _by_project(files, weights, origin(closed.job_uid, closed.round))
            if digest != closed.model.digest:
                yield f"{what}: its model is {closed.model.digest[:12]}, and the counted updates make {digest[:12]}"
                return
            plain = _plainly({edge: arrays_of(file) for edge, file in files.items()}, weights)
            for key, array in plain.items():
                if array.tobytes() != base[key].tobytes():
                    yield f"{what}: a plain sum in the edges' order gives other bits in {key}"


def _by_project(
    files: Mapping[str, bytes], weights: Mapping[str, int], metadata: Mapping[str, str]
) -> tuple[str, Model]:
    """As the aggregation worker does it, block by block."""
    with TemporaryDirectory() as directory:
        place = Path(directory)
        inputs = {}
        for edge, content in files.items():
            (place / edge).write_bytes(content)
            inputs[edge] = Input(place / edge, float(weights[edge]))
        result = aggregate(inputs, choose("FedAvg", {})[1], place / "result", threads=1, metadata=metadata)
        return result.digest, arrays_of(result.inline or (place / "result" / result.digest).read_bytes())


def _plainly(updates: Mapping[str, Model], weights: Mapping[str, int]) -> Model:
    """The weighted mean in the fewest words, whole arrays at once."""
    total = sum(weights.values())
    found: Model = {}
    for edge in sorted(updates):
        share = weights[edge] / total
        for key, array in updates[edge].items():
            part = array * np.float32(share) if array.dtype == np.float32 else array.astype(np.float64) * share
            found[key] = found[key] + part if key in found else part
    return {key: array if array.dtype == np.float32 else np.rint(array).astype(np.int64)
            for key, array in found.items()}  # fmt: skip


def arrays_of(content: bytes) -> Model:
    """The arrays of a safetensors file in memory, copied out of it."""
    with TensorFile(content) as file:
        return {name: array.copy() for name, array in file.arrays().items()}
