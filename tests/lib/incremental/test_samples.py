"""Samples as arrays: read from shards, joined, balanced, kept in a memory; what is none is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.payloads.labels import COLUMNS, TENSOR, TEXT
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.core.errors import Refused
from heliograph.incremental.memory import Memory, read_memory
from heliograph.incremental.sample_files import read_shard
from heliograph.incremental.samples import MOST_REPEATS, balanced, joined, samples_of, without
from heliograph.incremental.shards import LabelledSample, write_shard


def shard_of(contents: list[bytes], labels: list[int], media_type: str, directory: Path) -> TensorFile:
    samples = [LabelledSample(hashlib.sha256(content).hexdigest(), media_type, content, label)
               for content, label in zip(contents, labels, strict=True)]  # fmt: skip
    inline = write_shard(samples, directory).inline
    assert inline is not None
    return TensorFile(inline)


def test_a_shard_of_arrays_is_read(tmp_path: Path) -> None:
    rows = [np.full((2, 3), each, np.float32) for each in range(4)]
    shard = shard_of([dumps({"x": each}) for each in rows], [3, 1, 0, 3], TENSOR, tmp_path)
    found = read_shard(shard)
    assert np.array_equal(found.x, np.stack(rows)) and found.y.tolist() == [3, 1, 0, 3]
    assert found.ids()[0] == hashlib.sha256(dumps({"x": rows[0]})).hexdigest()
    shard.close()
    assert read_shard_of(tmp_path, rows, before=lambda x: x.reshape(-1)).x.shape == (4, 6)


def read_shard_of(directory: Path, rows: list[Any], before: Any) -> Any:
    return read_shard(shard_of([dumps({"x": each}) for each in rows], [0] * len(rows), TENSOR, directory), before)


def test_shards_of_texts_and_of_columns_are_read(tmp_path: Path) -> None:
    texts = ["a cat", "", "zwölf"]
    found = read_shard(shard_of([each.encode() for each in texts], [0, 1, 2], TEXT, tmp_path))
    assert found.x.tolist() == texts
    rows = [{"width": 1.5}, {"width": 2}]
    found = read_shard(shard_of([json.dumps(each).encode() for each in rows], [0, 1], COLUMNS, tmp_path))
    assert found.x.tolist() == rows
    found = read_shard(shard_of([json.dumps(each).encode() for each in rows], [0, 1], COLUMNS, tmp_path),
                       before=lambda row: [row["width"]])  # fmt: skip
    assert found.x.tolist() == [[1.5], [2.0]]


IDS = np.zeros((2, 32), np.uint8)
Y = np.zeros(2, np.int32)


@pytest.mark.parametrize(("field", "arrays", "metadata"), [
    ("id", {"x": np.zeros((2, 1)), "y": Y}, {}),
    ("id", {"x": np.zeros((2, 1)), "y": Y, "id": np.zeros((2, 8), np.uint8)}, {}),
    ("y", {"x": np.zeros((2, 1)), "id": IDS}, {}),
    ("y", {"x": np.zeros((2, 1)), "id": IDS, "y": np.zeros(3, np.int32)}, {}),
    ("y", {"x": np.zeros((2, 1)), "id": IDS, "y": np.zeros(2, np.float64)}, {}),
    ("y", {"x": np.zeros((2, 1)), "id": IDS, "y": np.array([0, -1], np.int32)}, {}),
    ("y", {"x": np.zeros((2, 1)), "id": IDS, "y": np.array([0, 1000], np.int32)}, {}),
    ("x", {"x": np.zeros((3, 1)), "id": IDS, "y": Y}, {}),
    ("x", {"x": np.float32(1), "id": IDS, "y": Y}, {}),
    ("bytes", {"id": IDS, "y": Y}, {}),
    ("ends", {"id": IDS, "y": Y, "bytes": np.zeros(4, np.uint8), "ends": np.array([3, 2])}, {}),
    ("ends", {"id": IDS, "y": Y, "bytes": np.zeros(4, np.uint8), "ends": np.array([2, 9])}, {}),
    ("ends", {"id": IDS, "y": Y, "bytes": np.zeros(4, np.uint8), "ends": np.array([-4, 4])}, {}),
    ("bytes", {"id": IDS, "y": Y, "bytes": np.full(4, 255, np.uint8), "ends": np.array([2, 4])},
     {"media_type": TEXT}),
    ("media_type", {"x": np.zeros((2, 1)), "id": IDS, "y": Y}, {"media_type": "video/mp4"}),
])  # fmt: skip
def test_what_is_no_shard_is_refused(field: str, arrays: dict[str, Any], metadata: dict[str, str]) -> None:
    with pytest.raises(Refused) as refused:
        read_shard(TensorFile(dumps(arrays, metadata), "shard 1"))
    assert refused.value.field == field and refused.value.topic == "shard 1"


@pytest.mark.parametrize(("x", "y", "code", "field"), [
    (np.zeros((3, 2)), [0, 1], "bad-shape", "y"),
    (np.zeros((2, 2)), np.eye(2), "bad-shape", "y"),
    (np.zeros((2, 2)), [0, -1], "bad-label", "y"),
    (np.zeros((2, 2)), [0, 0.5], "bad-label", "y"),
    (np.zeros((2, 2)), [0, float("nan")], "bad-label", "y"),
    (np.zeros((2, 2)), [0, 1000], "bad-label", "y"),
    (np.zeros((2, 2)), ["cat", "dog"], "bad-label", "y"),
    (np.float32(1), [0], "bad-shape", "x"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_label_that_is_none_is_refused(x: Any, y: Any, code: str, field: str) -> None:
    with pytest.raises(Refused) as refused:
        samples_of(x, y)
    assert (refused.value.code, refused.value.field) == (code, field)


def test_the_newest_label_of_a_sample_counts() -> None:
    x = np.arange(6).reshape(3, 2)
    whole = joined([samples_of(x, [0, 1, 2]), samples_of(x[1:2], [5])])
    assert whole.x.tolist() == [[0, 1], [4, 5], [2, 3]] and whole.y.tolist() == [0, 2, 5]
    assert without(whole, samples_of(x[:2], [0, 0])).y.tolist() == [2]


def test_samples_of_two_forms_are_not_joined() -> None:
    with pytest.raises(Refused, match="samples of one form"):
        joined([samples_of(np.zeros((1, 2)), [0]), samples_of(np.zeros((1, 3)), [0])])
    with pytest.raises(Refused, match="samples of one form"):
        joined([samples_of(np.zeros((1, 2)), [0]), samples_of(["a text"], [0])])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 2**32))
def test_balanced_classes_occur_alike(labels: list[int], seed: int) -> None:
    y = np.array(labels)
    chosen = y[balanced(y, np.random.default_rng(seed))]
    counts = np.unique(chosen, return_counts=True)[1]
    assert set(chosen.tolist()) == set(labels) and len(set(counts.tolist())) == 1
    assert set(range(len(y))) <= set(balanced(y, np.random.default_rng(seed)).tolist())  # none is left out


def test_one_sample_is_not_repeated_for_ever() -> None:
    y = np.array([0] * 1000 + [1])
    assert (y[balanced(y, np.random.default_rng(0))] == 1).sum() == MOST_REPEATS


@pytest.mark.parametrize("x", [np.arange(6, dtype=np.float32).reshape(3, 2), ["a", "b", "ü"],
                               [{"a": 1.0}, {"a": 2.0}, {"a": None}]])  # fmt: skip
def test_a_memory_is_what_its_file_says(x: Any) -> None:
    kept = samples_of(x, [4, 0, 4])
    memory = Memory(kept, (0, 4), {"ewc:importance:w": np.ones((2, 2), np.float32)})
    found = read_memory(TensorFile(dumps(memory.arrays())))
    assert found.samples is not None and found.seen == (0, 4)
    assert found.samples.x.tolist() == kept.x.tolist() and found.samples.y.tolist() == [4, 0, 4]
    assert found.samples.ids() == kept.ids()
    assert np.array_equal(found.state["ewc:importance:w"], np.ones((2, 2)))
    assert read_memory(TensorFile(dumps(Memory().arrays()))).samples is None


def test_a_file_that_is_no_memory_is_refused() -> None:
    with pytest.raises(Refused, match="seen"):
        read_memory(TensorFile(dumps({"w": np.zeros(2)}), "memory"))
    with pytest.raises(Refused, match="id"):
        read_memory(TensorFile(dumps({"seen": np.zeros(2, np.int32)}), "memory"))
