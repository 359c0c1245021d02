"""Every algorithm takes updates in every encoding: it sees whole weights, whatever travelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.resources.update_encoding import UpdateEncoding
from heliograph.bus.contract.weights_file import TensorFile, beside, dumps
from heliograph.workers.aggregation.checks import check_weights, expected_layout
from heliograph.workers.aggregation.combine import aggregate
from heliograph.workers.aggregation.decoding import decode, encoding_of
from heliograph.workers.aggregation.round_inputs import Input, RoundStart
from heliograph.workers.algorithms import BUILT_IN, choose
from heliograph.workers.update_encoding import Encoder
from tests.workers.algorithms.rounds import BUFFER, FLOATS, Arrays, moved, read, weights

EDGES = 7
NEEDED = {"FedPer": {"personal_layers": "d"}, "FedRep": {"personal_layers": "d"}}
METRICS = {"local_steps": 5.0, "received_loss": 0.7}
ENCODINGS = {
    "delta": UpdateEncoding(delta=True),
    "float16": UpdateEncoding(dtype="float16"),
    "delta-bfloat16": UpdateEncoding(delta=True, dtype="bfloat16"),
    "delta-int8": UpdateEncoding(delta=True, dtype="int8"),
    "delta-top-int8": UpdateEncoding(delta=True, dtype="int8", top_k=0.2),
}


def _update(algorithm: Any, base: Arrays, edge: int) -> Arrays:
    found = moved(base, 10 + edge)
    for kind in algorithm.beside:
        found |= {beside(kind, name): np.full_like(found[name], 0.1) for name in (*FLOATS, BUFFER)}
    return found


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_an_algorithm_takes_an_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    algorithm = choose(name, NEEDED.get(name, {}))
    base = weights(0)
    content = dumps(base)
    with TensorFile(content) as file:
        layout = dict(file.tensors)
    whole: dict[str, Input] = {}
    sent: dict[str, Input] = {}
    for edge in range(EDGES):
        update = _update(algorithm, base, edge)
        whole[f"edge-{edge}"] = Input(dumps(update), 10.0, metrics=METRICS)
        with TensorFile(content) as file:
            arrays, metadata, _ = Encoder(ENCODINGS[encoding], file, {}, f"{edge}").encode(update)
        travelled = dumps(arrays, metadata)
        found = encoding_of(travelled)
        assert found is not None
        target = tmp_path / f"update-{edge}"
        decode(travelled, target, *found, content, layout)
        check_weights(target, expected_layout(layout, algorithm.beside), content)
        sent[f"edge-{edge}"] = Input(target, 10.0, metrics=METRICS)
    start = RoundStart(content)
    results = [aggregate(each, algorithm, tmp_path, start=start, round=1, asked=EDGES) for each in (whole, sent)]
    assert not any(each.excluded for each in results)
    exact, decoded = (read(each.model, tmp_path) for each in results)
    moved_by = max(float(np.abs(exact[each] - base[each]).max()) for each in FLOATS)
    within = 1.0 if "top" in encoding else 0.3
    for each in FLOATS:
        assert np.isfinite(decoded[each]).all()
        if name not in ("FedAdagrad", "FedAdam", "FedYogi") or "top" not in encoding:
            assert float(np.abs(decoded[each] - exact[each]).max()) <= within * max(moved_by, 0.1)
