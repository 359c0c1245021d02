"""Splits give each sample to one edge; the parts are files of the same form as the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.core.errors import HeliographError, Refused
from heliograph.local.split import Split, train_and_test
from heliograph.local.split_file import split_file

EDGES = ["edge-1", "edge-2", "edge-3"]


@given(
    st.integers(8, 300), st.integers(1, 4), st.integers(0, 50), st.sampled_from(["iid", "dirichlet:0.5", "dirichlet:5"])
)
def test_every_sample_goes_to_one_part(samples: int, count: int, seed: int, split: str) -> None:
    labels = np.arange(samples) % 5
    parts = Split.parse(split).parts(labels, count, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(samples))
    assert min(map(len, parts)) >= 2
    again = Split.parse(split).parts(labels, count, seed)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


def test_a_small_alpha_is_more_unequal() -> None:
    labels = np.arange(3000) % 10

    def skew(alpha: float) -> float:
        parts = Split(alpha).parts(labels, 5, 1)
        counts = np.array([np.bincount(labels[part], minlength=10) for part in parts])
        return float((counts / counts.sum(0)).max(0).mean())

    assert skew(0.1) > skew(1.0) > skew(100.0)


@pytest.mark.parametrize(
    "text", ["", "even", "dirichlet", "dirichlet:0", "dirichlet:-1", "iid:2", "by-label:0", "by-label", "by-size:0"]
)
def test_invalid_splits_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="--split"):
        Split.parse(text)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(Refused, match="at least 6 samples"):
        Split().parts(np.zeros(5), 3, 0)


@given(st.integers(2, 100), st.integers(0, 9))
def test_test_samples_are_not_trained_on(samples: int, seed: int) -> None:
    train, test = train_and_test(samples, 0.2, seed)
    assert sorted([*train, *test]) == list(range(samples))
    assert len(test) >= 1


def test_an_npz_is_split_along_its_first_axis(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    x, y = np.arange(60).reshape(30, 2), np.arange(30) % 3
    np.savez(whole, x=x, y=y)
    parts = split_file(whole, tmp_path / "parts", EDGES, Split(1.0), seed=1, test=0.2)
    assert parts.test is not None
    seen = []
    for file in [*parts.files.values(), parts.test]:
        with np.load(file) as found:
            assert np.array_equal(found["x"][:, 0] // 2 % 3, found["y"])  # rows stay together
            seen += (found["x"][:, 0] // 2).tolist()
    assert sorted(seen) == list(range(30))
    assert parts.samples == {edge: len(np.load(file)["y"]) for edge, file in parts.files.items()}


def test_a_csv_keeps_its_header(tmp_path: Path) -> None:
    whole = tmp_path / "whole.csv"
    rows = [f'{n},"a, b",{n % 2}' for n in range(20)]
    whole.write_text("\n".join(["n,text,label", *rows, ""]))
    parts = split_file(whole, tmp_path / "parts", EDGES, Split(1.0), seed=1)
    lines = [line for file in parts.files.values() for line in file.read_text().splitlines()]
    assert lines.count("n,text,label") == 3
    assert sorted(lines) == sorted([*["n,text,label"] * 3, *rows])


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("broken.npz", b"PK\x03\x04 no zip", "is truncated or damaged"),
        ("ragged.csv", b"a,y\n1,2\n3\n", "has 1 fields in line 3, expected 2"),
        ("binary.csv", b"a,y\n\x00\x01,1", "null character in line 2"),
        ("none.csv", b"a,b\n" + b"1,2\n" * 20, "field --label"),
    ],
)
def test_the_error_names_a_file_that_is_no_data_set(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(HeliographError) as error:
        split_file(tmp_path / name, tmp_path / "parts", EDGES, Split(1.0), seed=1)
    assert name in str(error.value)
    assert expected in str(error.value)


def test_arrays_of_different_lengths_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", x=np.zeros(30), y=np.zeros(29))
    with pytest.raises(HeliographError, match=r"odd.npz has arrays .* x has 30, y has 29"):
        split_file(tmp_path / "odd.npz", tmp_path / "parts", EDGES, Split(), seed=1)


@given(st.integers(40, 300), st.integers(1, 12), st.integers(1, 7), st.integers(0, 50))
def test_by_label_every_part_has_at_most_n_labels(samples: int, count: int, each: int, seed: int) -> None:
    labels = np.arange(samples) % 5
    parts = Split(labels=each).parts(labels, count, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(samples))
    most = max(each, -(-5 // count))  # no class is left over
    assert all(len(np.unique(labels[part])) <= most for part in parts if len(part) > 2)


@given(st.integers(40, 300), st.integers(2, 12), st.integers(0, 50))
def test_by_size_the_largest_parts_have_most_samples(samples: int, count: int, seed: int) -> None:
    parts = Split(exponent=1.5).parts(np.zeros(samples), count, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(samples))
    sizes = sorted((len(part) for part in parts), reverse=True)
    assert sizes[-1] >= 2
    if samples > 10 * count:
        assert sizes[0] > 2 * samples / count / 1.5


def test_splits_by_label_and_by_size_are_parsed() -> None:
    assert Split.parse("by-label:2") == Split(labels=2)
    assert Split.parse("by-size:1.5") == Split(exponent=1.5)


def test_ten_thousand_parts_are_dealt_quickly() -> None:
    labels = np.arange(320_000) % 10
    for split in (Split(0.1), Split(labels=2), Split(exponent=1.2)):
        parts = split.parts(labels, 10_000, 1)
        assert min(map(len, parts)) >= 2
        assert sum(map(len, parts)) == 320_000
