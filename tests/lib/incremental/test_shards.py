"""Shards: what is written without NumPy is read with it, and what is no shard is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.payloads.labels import COLUMNS, TENSOR, TEXT
from heliograph.bus.contract.weights_file import INLINE, TensorFile, dumps
from heliograph.core.errors import Refused
from heliograph.core.membership import HeldOut
from heliograph.incremental import shards
from heliograph.incremental.shards import LabelledSample, divided, grouped, ids_of, shard_file, write_shard


def sample(content: bytes, label: int | float = 0, media_type: str = TENSOR) -> LabelledSample:
    return LabelledSample(hashlib.sha256(content).hexdigest(), media_type, content, label)


def of_array(x: object, label: int | float = 0, dtype: str = "float32") -> LabelledSample:
    return sample(dumps({"x": np.asarray(x, dtype)}), label)


@given(
    st.sampled_from(["uint8", "float16", "float32", "float64", "int64"]),
    st.integers(1, 9),
    st.sampled_from([(), (3,), (2, 5)]),
    st.booleans(),
)
def test_arrays_are_read_as_they_were_written(dtype: str, count: int, shape: tuple[int, ...], number: bool) -> None:
    arrays = [np.full(shape, n, dtype) for n in range(count)]
    labels = [n / 2 if number else n % 3 for n in range(count)]
    written = [of_array(x, label, dtype) for x, label in zip(arrays, labels, strict=True)]
    ref = write_shard(written, Path("nowhere"), schema_version=4)
    assert ref.inline is not None and hashlib.sha256(ref.inline).hexdigest() == ref.digest
    with TensorFile(ref.inline, "shard") as shard:
        np.testing.assert_array_equal(shard.numpy("x"), np.stack(arrays))
        np.testing.assert_array_equal(shard.numpy("y"), labels)
        assert shard.numpy("x").dtype == dtype
        assert all(shard.tensors[name].start % shard.numpy(name).itemsize == 0 for name in shard.tensors)
        assert ids_of(shard) == [each.digest for each in written]
        assert shard.metadata == {"media_type": TENSOR, "schema_version": "4"}


@given(st.lists(st.text(max_size=20), min_size=1, max_size=9))
def test_texts_are_read_as_they_were_written(texts: list[str]) -> None:
    ref = write_shard([sample(text.encode(), 1, TEXT) for text in texts], Path("nowhere"))
    with TensorFile(ref.inline or b"", "shard") as shard:
        ends = shard.numpy("ends").tolist()
        whole = bytes(shard.numpy("bytes"))
        assert [whole[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)] == texts


def test_a_large_shard_is_a_file_of_its_digest(tmp_path: Path) -> None:
    many = [of_array(np.full(1000, n)) for n in range(INLINE // 4000 + 2)]
    ref = write_shard(many, tmp_path / "shards")
    content = (tmp_path / "shards" / ref.digest).read_bytes()
    assert ref.inline is None and ref.size == len(content)
    assert hashlib.sha256(content).hexdigest() == ref.digest
    assert write_shard(many, tmp_path / "shards") == ref


def test_samples_of_different_forms_lie_in_different_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_SAMPLES", 2)
    mixed = [of_array([1, 2]), of_array([3]), of_array([5, 6]), of_array([7, 8]), of_array([1, 2], 0.5),
             sample(b"one", 0, TEXT), sample(b'{"a":1}', 0, COLUMNS)]  # fmt: skip
    groups = list(grouped(mixed))
    assert sorted(len(group) for group in groups) == [1, 1, 1, 1, 1, 2]
    assert sorted(each.digest for group in groups for each in group) == sorted(each.digest for each in mixed)


def test_a_shard_has_about_as_many_bytes_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    one = of_array(np.zeros(100))
    monkeypatch.setattr(shards, "MAX_BYTES", 3 * len(one.content))
    assert [len(group) for group in grouped([one] * 7)] == [3, 3, 1]


@pytest.mark.parametrize(
    ("content", "media_type", "field"),
    [(b"png", "image/png", "media_type"), (b"", TENSOR, ""), (dumps({"z": np.zeros(2)}), TENSOR, "x")],
)
def test_a_sample_that_no_shard_holds_is_refused(content: bytes, media_type: str, field: str) -> None:
    with pytest.raises(Refused) as refused:
        list(grouped([sample(content, 0, media_type)]))
    assert refused.value.field == field


@pytest.mark.parametrize("id", [None, np.zeros((2, 31), np.uint8), np.zeros((2, 32), np.int8)])
def test_a_file_without_ids_is_no_shard(id: np.ndarray | None) -> None:
    arrays = {"x": np.zeros(2), **({} if id is None else {"id": id})}
    with TensorFile(dumps(arrays), "given") as shard, pytest.raises(Refused, match="id") as refused:
        ids_of(shard)
    assert refused.value.topic == "given"


@given(st.lists(st.integers(0, 5000), unique=True, max_size=60), st.integers(1, 90))
def test_samples_are_divided_by_their_hash_alone(numbers: list[int], percent: int) -> None:
    """Each sample is in one shard, and held out whatever comes with it."""
    held_out = HeldOut(percent)
    samples = [of_array([number]) for number in numbers]
    found = [(each.digest, is_held_out) for group, is_held_out in divided(samples, held_out) for each in group]
    assert sorted(found) == sorted((each.digest, each.digest in held_out) for each in samples)


def test_a_small_shard_is_a_file_too(tmp_path: Path) -> None:
    file, ref = shard_file([of_array([1, 2])], tmp_path / "shards", 3)
    assert ref.inline is None and file.name == ref.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert [each.name for each in file.parent.iterdir()] == [ref.digest]
    with TensorFile(file) as shard:
        assert shard.metadata["schema_version"] == "3"
