"""Updates that travel as less than whole weights: what is decoded, what is left behind, and files that lie."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import Assignment, TrainTask
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources.update_encoding import UpdateEncoding
from heliograph.bus.contract.weights_file import ENCODING, TensorFile, dumps, write
from heliograph.core.errors import Refused
from heliograph.session import Trained
from heliograph.workers.aggregation import blocks
from heliograph.workers.aggregation.checks import check_weights
from heliograph.workers.aggregation.decoding import decode, encoding_of
from heliograph.workers.runtime import Runtime
from heliograph.workers.train import WorkerSession
from heliograph.workers.update_encoding import Encoder

Arrays = dict[str, Any]


def _model(seed: int, scale: float = 1.0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "w": (scale * rng.normal(size=(6, 5, 4))).astype(np.float32),
        "h": (scale * rng.normal(size=(3, 7))).astype(np.float16),
        "b": (scale * rng.normal(size=11)).astype(np.float32),
        "d": scale * rng.normal(size=4),
        "zero": np.zeros(5, np.float32),
        "batches": np.array([seed], np.int64),
        "mask": np.where(np.eye(3) > 0, 0, -np.inf).astype(np.float32),
        "scalar": np.array(scale * rng.normal(), np.float32),
    }


def _trained(base: Arrays, seed: int) -> Arrays:
    change = _model(seed, 0.1)
    return {name: array if name == "mask" else (array + change[name]).astype(array.dtype)
            for name, array in base.items()}  # fmt: skip


def _sent(
    encoding: UpdateEncoding, base: Arrays, arrays: Arrays, residuals: Arrays | None = None, seed: str = "s"
) -> Any:
    with TensorFile(dumps(base)) as file:
        return Encoder(encoding, file, residuals or {}, seed).encode(arrays)


def _decoded(content: bytes, base: Arrays, directory: Path) -> Arrays:
    found = encoding_of(content)
    assert found is not None
    with TensorFile(dumps(base)) as file:
        layout = dict(file.tensors)
    target = directory / "decoded"
    decode(content, target, *found, dumps(base), layout)
    check_weights(target, layout, dumps(base))  # an update as any other
    with TensorFile(target) as file:
        assert ENCODING not in file.metadata
        return {name: array.copy() for name, array in file.arrays().items()}


ENCODINGS = [
    UpdateEncoding(delta=delta, dtype=dtype, topK=top_k)  # type: ignore[arg-type]
    for delta in (False, True)
    for dtype in (None, "float32", "float16", "bfloat16", "int8")
    for top_k in ((None, 0.1) if delta else (None,))
]
PRECISION = {None: 1e-6, "float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2, "int8": 2e-2}


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda each: json.dumps(each.model_dump(exclude_none=True)))
def test_what_is_decoded_is_what_was_meant(
    tmp_path: Path, encoding: UpdateEncoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 16)
    base = _model(0)
    arrays = _trained(base, 1)
    sent, metadata, left = _sent(encoding, base, arrays)
    found = _decoded(dumps(sent, metadata), base, tmp_path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        if name in ("batches", "mask", "d"):
            np.testing.assert_array_equal(found[name], array)  # these travel whole
        elif encoding.top_k is None:
            size = float(np.abs(array - base[name] if encoding.delta else array).max(initial=0))
            within = PRECISION[encoding.dtype] * max(size, 1e-3) + (2e-3 if name == "h" else 0)
            np.testing.assert_allclose(found[name].astype(float), array.astype(float), atol=within)
        else:  # what came and what was left behind are together what was meant
            change = found[name].astype(float) - base[name].astype(float)
            whole = change + left[name].astype(float)
            np.testing.assert_allclose(whole, array.astype(float) - base[name].astype(float), atol=3e-3)


def test_the_largest_changes_by_magnitude_travel(tmp_path: Path) -> None:
    base = {"w": np.zeros(100, np.float32)}
    changes = np.linspace(-1, 0.5, 100, dtype=np.float32)
    sent, metadata, left = _sent(UpdateEncoding(delta=True, topK=0.1), base, {"w": changes})
    found = _decoded(dumps(sent, metadata), base, tmp_path)["w"]
    assert set(np.flatnonzero(found)) == set(range(10))  # negative ones are the largest here
    np.testing.assert_array_equal(left["w"][10:], changes[10:])


@settings(max_examples=30, deadline=None)
@given(rounds=st.integers(1, 6), top_k=st.sampled_from([0.05, 0.2]), dtype=st.sampled_from([None, "int8", "float16"]))
def test_nothing_is_lost_over_rounds(tmp_path_factory: Any, rounds: int, top_k: float, dtype: Any) -> None:
    """The sum of all that came, and what is left behind, is the sum of all changes: e ← (Δ + e) - decoded."""
    directory = tmp_path_factory.mktemp("rounds")
    base = {"w": np.zeros((4, 10), np.float32)}
    came, meant, residuals = np.zeros((4, 10)), np.zeros((4, 10)), dict[str, Any]()
    for round in range(rounds):
        change = np.random.default_rng(round).normal(size=(4, 10)).astype(np.float32)
        encoding = UpdateEncoding(delta=True, topK=top_k, dtype=dtype)
        sent, metadata, residuals = _sent(encoding, base, {"w": change}, residuals, str(round))
        came += _decoded(dumps(sent, metadata), base, directory)["w"]
        meant += change
    np.testing.assert_allclose(came + residuals["w"], meant, atol=1e-4)


def test_whole_numbers_round_without_bias() -> None:
    base = {"w": np.zeros((1, 20_000), np.float32)}
    value = np.full((1, 20_000), 0.3 / 127, np.float32)
    value[0, 0] = 1.0  # the scale is 1 / 127, and the others lie 0.3 of a step above 0
    sent, _, _ = _sent(UpdateEncoding(dtype="int8", delta=True), base, {"w": value})
    assert 0.28 < float(sent["w"][0, 1:].mean()) < 0.32
    again, _, _ = _sent(UpdateEncoding(dtype="int8", delta=True), base, {"w": value})
    np.testing.assert_array_equal(sent["w"], again["w"])  # a round that is trained again has the same bytes
    other, _, _ = _sent(UpdateEncoding(dtype="int8", delta=True), base, {"w": value}, seed="other")
    assert (sent["w"] != other["w"]).any()


def test_each_output_channel_has_its_own_scale(tmp_path: Path) -> None:
    base = {"w": np.zeros((2, 50), np.float32)}
    value = np.stack([np.linspace(-1e-3, 1e-3, 50), np.linspace(-1e3, 1e3, 50)]).astype(np.float32)
    sent, metadata, _ = _sent(UpdateEncoding(dtype="int8"), base, {"w": value})
    found = _decoded(dumps(sent, metadata), base, tmp_path)["w"]
    np.testing.assert_allclose(found[0], value[0], atol=1e-3 / 127)


def _hostile(**changed: Any) -> tuple[bytes, Arrays]:
    base = {"w": np.zeros(40, np.float32)}
    places, scale = np.arange(4, dtype=np.uint32), np.ones(1, np.float32)
    arrays: Arrays = {"w": np.ones(4, np.int8), "index:w": places, "scale:w": scale}
    plan = {"delta": True, "dtype": "int8", "topK": 0.1, "tensors": ["w"]}
    text = changed.pop("text", None) or json.dumps({**plan, **changed.pop("plan", {})})
    for name, array in changed.items():
        arrays[name.replace("_", ":")] = array
    return dumps({name: array for name, array in arrays.items() if array is not None}, {ENCODING: text}), base


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"text": "{"}, "field encoding: expected JSON"),
        ({"text": "[1]"}, "field encoding: expected JSON"),
        ({"text": '{"tensors": 7}'}, "field encoding: expected JSON"),
        ({"plan": {"dtype": "int4"}}, "dtype"),
        ({"plan": {"delta": False}}, "topK needs delta"),
        ({"plan": {"topK": 1e9}}, "topK"),
        ({"plan": {"extra": 1}}, "extra"),
        ({"index_w": np.array([0, 1, 2, 40], np.uint32)}, "ascending places below 40"),
        ({"index_w": np.array([0, 2, 1, 3], np.uint32)}, "ascending places"),
        ({"index_w": np.array([0, 0, 1, 3], np.uint32)}, "ascending places"),
        ({"index_w": np.arange(4, dtype=np.int64)}, "as many numbers as places"),
        ({"index_w": np.arange(3, dtype=np.uint32)}, "as many numbers as places"),
        ({"index_w": None}, "expected key 'index:w'"),
        ({"w": np.ones(30, np.int8), "index_w": np.arange(30, dtype=np.uint32)}, "at most 4"),
        ({"w": np.ones(4, np.float32)}, "expected I8"),
        ({"scale_w": np.ones(2, np.float32)}, "scale:w: expected"),
        ({"scale_w": None}, "expected key 'scale:w'"),
        ({"scale_w": np.array([np.inf], np.float32)}, "expected finite values"),
        ({"scale_w": np.array([np.nan], np.float32)}, "expected finite values"),
    ],
)
def test_a_file_that_lies_is_refused_by_name(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    content, base = _hostile(**changed)
    with pytest.raises(Refused, match=reason):
        _decoded(content, base, tmp_path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_raise_nothing_but_refusals(tmp_path_factory: Any, data: st.DataObject) -> None:
    content, base = _hostile()
    at = data.draw(st.integers(0, len(content) - 1))
    damaged = bytearray(content)
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        found = encoding_of(bytes(damaged))
        if found is not None:
            with TensorFile(dumps(base)) as file:
                decode(bytes(damaged), tmp_path_factory.mktemp("d") / "x", *found, dumps(base), dict(file.tensors))
    except Refused:
        pass


def test_a_part_of_whole_weights_is_refused_at_intake() -> None:
    worker = {"name": "a", "workerSpec": {"trainScriptBootFile": "t.py"}}
    spec = {"aggregationWorker": {"model": {"name": "m"}}, "trainingWorkers": [worker]}
    for encoding, reason in (({"topK": 0.1}, "topK needs delta"), ({"delta": True, "topK": 0.9}, "topK"),
                             ({"dtype": "int3"}, "int8"), ({"zip": True}, "zip")):  # fmt: skip
        document = {"kind": "FederatedTask", "metadata": {"name": "j"}, "spec": {**spec, "updateEncoding": encoding}}
        with pytest.raises(Refused, match=reason):
            parse_resource(document)


async def test_a_worker_sends_what_its_task_asks_and_keeps_what_is_left(tmp_path: Path) -> None:
    """What a late update has left behind is sent again; what a counted one has, is not."""
    base = {"w": np.zeros(50, np.float32), "frozen": np.ones(3, np.float32)}
    model = write(base, tmp_path)
    encoding = UpdateEncoding(delta=True, topK=0.1)
    updates: list[Any] = []

    async def send(topic: Any, update: Any, **params: str) -> None:
        updates.append(update)

    environment = SimpleNamespace(edge="edge-1", directory=tmp_path)
    runtime = cast(Runtime, SimpleNamespace(environment=environment, send=send))
    session = WorkerSession(runtime, asyncio.get_running_loop())
    counted: str | None = None
    came = np.zeros(50)
    meant = np.zeros(50)
    for number, is_counted in enumerate((True, False, True, True), 1):
        task = TrainTask(
            worker="w", job="j", job_uid="u", round=number, model=model, encoding=encoding, counted=counted
        )
        session.put(Assignment(task=task, edge="edge-1"))
        change = np.random.default_rng(number).normal(size=50).astype(np.float32)

        def work(change: Any = change) -> None:
            session.next_work()
            session.send_update(Trained({"w": change, "frozen": np.ones(3, np.float32)}, 5))

        await asyncio.get_running_loop().run_in_executor(None, work)
        update = updates[-1]
        assert json.loads(update.encoding)["topK"] == 0.1
        found = _decoded(update.weights.inline, base, tmp_path)
        assert "frozen" not in found
        if is_counted:
            counted, came, meant = update.weights.digest, came + found["w"], meant + change
    left = session._states.current(counted)
    assert left is not None
    with left as file:
        np.testing.assert_allclose(came + file.numpy("residual:w"), meant, atol=1e-4)
