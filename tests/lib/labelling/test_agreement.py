"""Agreement against published figures, and against labellers whose errors are known."""

from __future__ import annotations

import random

import pytest

from heliograph.labelling.agreement import agreeing_share, dawid_skene, krippendorff_alpha, majority, one_class

KRIPPENDORFF = (
    "*    *    *    *    *    3    4    1    2    1    1    3    3    *    3",
    "1    *    2    1    3    3    4    3    *    *    *    *    *    *    *",
    "*    *    2    1    3    4    4    *    2    1    1    3    3    *    4",
)
"""Krippendorff's example: three observers, fifteen units, ``*`` for no value."""


def _units() -> list[dict[str, int]]:
    rows = [line.split() for line in KRIPPENDORFF]
    return [{f"coder {n}": int(v) for n, v in enumerate(unit) if v != "*"} for unit in zip(*rows, strict=True)]


def test_alpha_is_that_of_krippendorffs_example() -> None:
    assert krippendorff_alpha(_units()) == pytest.approx(0.691, abs=5e-4)
    assert krippendorff_alpha(_units(), "interval") == pytest.approx(0.811, abs=5e-4)


@pytest.mark.parametrize(
    ("labels", "alpha"),
    [
        ([{"a": 1, "b": 1}, {"a": 2, "b": 2}], 1.0),
        ([{"a": 1, "b": 2}, {"a": 2, "b": 1}], -0.5),
        ([{"a": 1, "b": 1}], None),  # one label alone: neither agreement nor chance
        ([{"a": 1}, {"b": 2}], None),
        ([], None),
    ],
)
def test_alpha_of_extremes(labels: list[dict[str, int]], alpha: float | None) -> None:
    assert krippendorff_alpha(labels) == alpha


def test_a_majority_of_a_draw_is_the_label_that_came_first() -> None:
    assert majority({"a": "cat", "b": "dog", "c": "dog"}) == ("dog", pytest.approx(2 / 3))
    assert majority({"a": "cat", "b": "dog"}) == ("cat", 0.5)
    assert majority({}) is None
    assert majority({"a": 1.0, "b": 1.2, "c": 9.0}, lambda one, other: abs(one - other) < 0.5) == (1.0, 2 / 3)


def test_dawid_and_skene_trust_the_careful_one_of_three() -> None:
    """One labeller is nearly always right, two others half of the time; among votes they often win."""
    draw = random.Random(7)
    truth = [draw.choice("abc") for _ in range(300)]
    rates = {"careful": 0.95, "guess 1": 0.2, "guess 2": 0.2}
    tasks = [
        {who: right if draw.random() < rate else draw.choice("abc") for who, rate in rates.items()} for right in truth
    ]
    model = dawid_skene(tasks)
    found = [max(likely := model.posterior(each), key=likely.__getitem__) for each in tasks]
    votes = [majority(each) for each in tasks]
    right = sum(map(str.__eq__, found, truth))
    by_vote = sum(vote is not None and vote[0] == real for vote, real in zip(votes, truth, strict=True))
    assert right > 268 > by_vote
    assert model.accuracy("careful") > 0.8 > 0.6 > model.accuracy("guess 1")


def test_a_model_without_labels_says_nothing() -> None:
    model = dawid_skene([{}])
    assert (model.classes, model.posterior({"anna": "cat"})) == ((), {})
    assert dawid_skene([{"anna": "cat"}]).posterior({"bert": "cat", "anna": "unheard of"}) == {}


def test_a_labeller_that_gives_one_class_to_all_is_found_by_agreement() -> None:
    tasks = [{"lazy": "cat", "anna": "cat" if n % 3 else "dog", "bert": "cat" if n % 3 else "dog"} for n in range(12)]
    assert one_class(tasks) == {"lazy": "cat"}
    assert one_class(tasks[:9]) == {}  # too few to say so
    assert agreeing_share(tasks)["lazy"] < agreeing_share(tasks)["anna"]
    everyone_right = [{"lazy": "cat", "anna": "cat"} for _ in range(30)]
    assert one_class(everyone_right) == {}  # there were only cats
