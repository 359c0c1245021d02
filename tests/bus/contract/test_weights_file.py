"""Weights files: they round-trip, also through the safetensors library, and a damaged file is refused."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heliograph.bus.contract import weights_file as tensors
from heliograph.bus.contract.weights_file import TensorFile
from heliograph.core.errors import Refused

Array = np.ndarray[Any, Any]
DTYPES = ["?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"]
LIBRARY = {
    "bool": "BOOL", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32",
    "int64": "I64", "uint64": "U64", "float16": "F16", "float32": "F32", "float64": "F64",
}  # fmt: skip

array = hnp.arrays(
    st.sampled_from([*DTYPES, ">i4", ">f4", ">f8"]).map(np.dtype),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)
names = st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda name: name != "__metadata__")
many_arrays = st.dictionaries(names, array, max_size=6)
text_maps = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)


def assert_same(found: Array, expected: Array) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype.newbyteorder("<")
    assert found.tobytes() == expected.astype(found.dtype).tobytes()  # compare bits, because NaN equals nothing


@given(many_arrays, text_maps)
@example({"scalar": np.array(3.5, "<f4"), "empty": np.zeros((0, 3), "<f8"), "none": np.zeros(0, "?")}, {})
def test_round_trip(arrays: dict[str, Array], metadata: dict[str, str]) -> None:
    with TensorFile(tensors.dumps(arrays, metadata)) as file:
        assert file.metadata == metadata
        assert set(file.tensors) == set(arrays)
        for name, found in file.arrays().items():
            assert_same(found, arrays[name])
            tensor = file.tensors[name]
            assert (tensor.dtype, tensor.shape) == (LIBRARY[found.dtype.name], arrays[name].shape)
            assert tensor.count == arrays[name].size
            assert tensor.is_float == (found.dtype.kind == "f")


@given(many_arrays, text_maps)
def test_the_library_reads_our_files(arrays: dict[str, Array], metadata: dict[str, str]) -> None:
    found = safetensors.numpy.load(tensors.dumps(arrays, metadata))
    assert set(found) == set(arrays)
    for name, expected in arrays.items():
        assert_same(found[name], expected)


# at least one array: with metadata alone the library writes a header that it cannot read itself
@given(st.dictionaries(names, array.filter(lambda each: each.dtype.isnative), min_size=1, max_size=6), text_maps)
def test_files_of_the_library_are_read(arrays: dict[str, Array], metadata: dict[str, str]) -> None:
    with TensorFile(safetensors.numpy.save(arrays, metadata)) as file:
        assert file.metadata == metadata
        assert set(file.tensors) == set(arrays)
        for name, expected in arrays.items():
            assert_same(file.numpy(name), expected)


def test_arrays_that_are_not_contiguous_are_written_in_their_order() -> None:
    base = np.arange(24, dtype="<i4").reshape(4, 6)
    arrays = {"turned": base.T, "stepped": base[::2, 1::2], "fortran": np.asfortranarray(base), "flipped": base[::-1]}
    with TensorFile(tensors.dumps(arrays)) as file:
        for name, expected in arrays.items():
            assert_same(file.numpy(name), expected)


def test_every_tensor_starts_where_numpy_can_view_it() -> None:
    lengths = {"u1": 3, "<f8": 2, "<f2": 5, "<i4": 1}
    arrays = {dtype: np.ones(length, dtype) for dtype, length in lengths.items()}
    with TensorFile(tensors.dumps(arrays)) as file:
        for name in arrays:
            assert file.numpy(name).flags.aligned


def test_a_view_can_not_be_written_to() -> None:
    with TensorFile(tensors.dumps({"a": np.ones(3)})) as file, pytest.raises(ValueError, match="read-only"):
        file.numpy("a")[0] = 2.0


def test_bf16_is_seen_as_its_bits() -> None:
    head = tensors.header({"a": ("BF16", (2,), 4)})
    with TensorFile(head + b"\x80\x3f\x00\x40") as file:  # 1.0 and 2.0
        assert file.tensors["a"].is_float
        assert file.numpy("a").tolist() == [0x3F80, 0x4000]


def test_small_weights_travel_inline_and_large_ones_as_a_file(tmp_path: Path) -> None:
    small = tensors.write({"a": np.ones(8)}, tmp_path / "weights", {"round": "1"})
    assert small.inline is not None
    assert small.size == len(small.inline)
    assert small.digest == hashlib.sha256(small.inline).hexdigest()
    assert not (tmp_path / "weights").exists()
    large = tensors.write({"a": np.arange(tensors.INLINE, dtype="<f4")}, tmp_path / "weights", {"round": "1"})
    path = tmp_path / "weights" / large.digest
    assert large.inline is None
    assert [each.name for each in (tmp_path / "weights").iterdir()] == [large.digest]
    assert path.stat().st_size == large.size
    assert hashlib.sha256(path.read_bytes()).hexdigest() == large.digest
    with TensorFile(path) as file:
        assert file.metadata == {"round": "1"}
        assert file.numpy("a")[-1] == tensors.INLINE - 1


def test_the_same_weights_are_the_same_bytes() -> None:
    arrays = {"b": np.ones(3, "<f4"), "a": np.zeros((2, 2), "<f4"), "c": np.array(True)}
    assert tensors.dumps(arrays) == tensors.dumps({name: each.copy() for name, each in arrays.items()})


def test_a_view_outlives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(tensors.dumps({"a": np.arange(1000, dtype="<i8")}))
    with TensorFile(path) as file:
        view = file.numpy("a")
    assert view.sum() == 499_500


@pytest.mark.parametrize(
    "wrong",
    [
        np.array([object()]),
        np.array([{"a": 1}]),
        np.array(["text"]),
        np.array([b"bytes"]),
        np.array([1 + 2j]),
        np.array(["2026-01-01"], "datetime64[D]"),
        np.zeros(2, [("a", "<f4"), ("b", "<i4")]),
    ],
    ids=lambda each: str(each.dtype.kind),
)
def test_an_array_that_would_need_pickle_is_refused(wrong: Array, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        tensors.write({"good": np.ones(2), "wrong": wrong}, tmp_path / "weights")
    assert refused.value.field == "wrong"
    assert "array" in refused.value.expected
    assert not (tmp_path / "weights").exists()


def test_the_formats_own_name_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        tensors.dumps({"__metadata__": np.ones(2)})
    assert refused.value.field == "__metadata__"


def with_header(tree: object, data: bytes = b"") -> bytes:
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def deep(depth: int) -> bytes:
    return b'{"a":{"dtype":' + b"[" * depth + b"]" * depth + b',"shape":[],"data_offsets":[0,4]}}'


FOUR = b"\x00\x00\x80\x3f"


def test_the_frame_of_the_damaged_headers_is_itself_good() -> None:
    with TensorFile(with_header({"a": one()}, FOUR)) as file:
        assert file.numpy("a").tolist() == [1.0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00" * 7,
        b"\x00" * 8,
        (1).to_bytes(8, "little") + b"{",
        (3).to_bytes(8, "little") + b"{}",
        (2**63).to_bytes(8, "little") + b"{}",
        (2**64 - 1).to_bytes(8, "little") + b"{}",
        with_header(b"not json"),
        with_header(b"\xff\xfe{}"),
        with_header(b"[" * 100_000),
        with_header(deep(900), FOUR),
        with_header([]),
        with_header(5),
        with_header({}, b"x"),
        with_header({"a": 5}),
        with_header({"a": None}),
        with_header({"a": []}),
        with_header({"a": {"dtype": "F32", "shape": [1]}}, FOUR),
        with_header({"a": one(dtype="F128")}, FOUR),
        with_header({"a": one(dtype="BF17")}, FOUR),
        with_header({"a": one(dtype="O")}, FOUR),
        with_header({"a": one(dtype=None)}, FOUR),
        with_header({"a": one(dtype=[])}, FOUR),
        with_header({"a": one(dtype={})}, FOUR),
        with_header({"a": one(shape=5)}, FOUR),
        with_header({"a": one(shape=None)}, FOUR),
        with_header({"a": one(shape="1")}, FOUR),
        with_header({"a": one(shape=[1.0])}, FOUR),
        with_header({"a": one(shape=[True])}, FOUR),
        with_header({"a": one(shape=[-1])}, FOUR),
        with_header({"a": one(shape=[2])}, FOUR),
        with_header({"a": one(shape=[[1]])}, FOUR),
        with_header({"a": one(shape=[1] * 17)}, FOUR),
        with_header({"a": one(shape=[2**47, 2**47])}, FOUR),
        with_header({"a": one(shape=[0, 2**47, 2**47], offsets=[0, 0])}),
        with_header({"a": one(shape=[2**100])}, FOUR),
        with_header({"a": one(offsets=[0])}, FOUR),
        with_header({"a": one(offsets=[0, 4, 4])}, FOUR),
        with_header({"a": one(offsets=4)}, FOUR),
        with_header({"a": one(offsets="04")}, FOUR),
        with_header({"a": one(offsets=["0", "4"])}, FOUR),
        with_header({"a": one(offsets=[4, 0])}, FOUR),
        with_header({"a": one(offsets=[-4, 0])}, FOUR),
        with_header({"a": one(offsets=[1, 5])}, FOUR + b"x"),
        with_header({"a": one(offsets=[2**62, 2**62 + 4])}, FOUR),
        with_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[Infinity,4]}}', FOUR),
        with_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e999]}}', FOUR),
        with_header(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', FOUR),
        with_header(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', FOUR),
        with_header({"a": one()}, FOUR[:3]),
        with_header({"a": one()}, FOUR + b"x"),
        with_header({"a": one(), "b": one()}, FOUR),
        with_header({"a": one(), "b": one(offsets=[2, 6])}, FOUR + b"xx"),
        with_header({"a": one(), "b": one(offsets=[8, 12])}, FOUR * 3),
    ],
)
def test_a_damaged_file_is_refused(body: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(body)
    for source, name in ((body, "update of edge-1"), (path, str(path))):
        with pytest.raises(Refused) as refused:
            TensorFile(source, name)
        assert refused.value.code == "bad-weights"
        assert refused.value.topic == name
        assert refused.value.expected
        assert len(str(refused.value)) < 1000


def refuses_or_reads(body: bytes) -> None:
    try:
        with TensorFile(body) as file:
            for view in file.arrays().values():
                view.tobytes()
    except Refused:
        pass


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_else(body: bytes) -> None:
    refuses_or_reads(body)
    refuses_or_reads(with_header(body))


json_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["F32", "BOOL", "0", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=5,
)
small = st.integers(0, 9) | json_trees
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "BOOL", "I64"]) | json_trees,
        "shape": st.lists(small, max_size=3) | json_trees,
        "data_offsets": st.tuples(small, small) | json_trees,
    }
)


@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), entries | json_trees), st.binary(max_size=16))
def test_random_headers_are_refused_and_nothing_else(tree: dict[str, object], data: bytes) -> None:
    refuses_or_reads(with_header(tree, data))


@given(many_arrays.filter(bool), st.data())
def test_a_cut_file_is_refused(arrays: dict[str, Array], data: st.DataObject) -> None:
    body = tensors.dumps(arrays)
    with pytest.raises(Refused):
        TensorFile(body[: data.draw(st.integers(0, len(body) - 1))])
    with pytest.raises(Refused):
        TensorFile(body + b"\x00")


@given(many_arrays.filter(bool), st.data())
def test_a_changed_header_is_refused_and_nothing_else(arrays: dict[str, Array], data: st.DataObject) -> None:
    body = bytearray(tensors.dumps(arrays))
    length = int.from_bytes(body[:8], "little")
    body[data.draw(st.integers(0, 7 + length))] = data.draw(st.integers(0, 255))
    refuses_or_reads(bytes(body))


@contextmanager
def allocating_at_most(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak} bytes were allocated"


@pytest.mark.parametrize(
    "claim", [16 * 2**20 + 1, 2**29, 2**30 - 8, 2**40, 2**63, 2**64 - 1], ids=lambda claim: f"{claim:x}"
)
def test_a_huge_claimed_header_is_not_allocated(claim: int, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(claim.to_bytes(8, "little"))
        file.truncate(2**30)  # the file is as large as some of the claims, and takes no disk
    with allocating_at_most(2**20), pytest.raises(Refused):
        TensorFile(path)


def test_a_huge_claimed_tensor_is_not_allocated(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.write_bytes(with_header({"a": one(dtype="U8", shape=[2**40], offsets=[0, 2**40])}))
    with allocating_at_most(2**20), pytest.raises(Refused):
        TensorFile(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 2**30)
    with allocating_at_most(2**20), pytest.raises(Refused):
        TensorFile(path)


def test_a_large_file_is_read_without_a_copy(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    head = tensors.header({"a": ("F32", (2**28,), 2**30)})
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(len(head) + 2**30)
    with allocating_at_most(2**20), TensorFile(path) as weights:
        assert weights.numpy("a")[-1] == 0.0
