"""A lifelong model: the task that answers, tasks that open, and its weights as one file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph import IncrementalLearning
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.core.errors import Refused
from heliograph.frameworks.loading import load
from heliograph.incremental.growth import load_grown
from heliograph.incremental.learning import Replay
from heliograph.inference.hard_samples import choose
from heliograph.lifelong import Learned, LifelongModel
from tests.lib.lifelong.digits_of_tasks import Part, Trainable, fit, model_of, negative, task, upright

Array = np.ndarray[Any, Any]
A, B = task(range(10), upright, 500), task(range(10), negative, 500)


@pytest.fixture(scope="module")
def both() -> LifelongModel:
    return model_of(A, B)


def test_each_sample_is_answered_by_its_task(both: LifelongModel) -> None:
    for number, each in enumerate((A, B)):
        assert (both.choose(each.test.x) == number).mean() > 0.85
        assert (both(each.test.x).argmax(1) == each.test.y).mean() > 0.85


def test_the_scores_of_a_strange_sample_sum_to_less() -> None:
    model = model_of(A)
    sums = {name: model(x).sum(1) for name, x in (("known", A.test.x), ("strange", B.test.x))}
    assert np.median(sums["known"]) > 0.5 > np.median(sums["strange"])
    rule = choose("unknown", {})
    assert np.mean([rule(row) for row in model(B.test.x)]) > 0.95
    assert np.mean([rule(row) for row in model(A.test.x)]) < 0.15


def test_without_a_task_every_sample_is_unknown() -> None:
    model = LifelongModel(Trainable, fit, classes=3)
    assert np.isinf(model.unknown(A.test.x[:2])).all() and (model.choose(A.test.x[:2]) == -1).all()
    assert np.array_equal(model(A.test.x[:2]), np.zeros((2, 3))) and choose("unknown", {})(model(A.test.x[:1])[0])
    assert model(A.test.x[:0]).shape == (0, 3)


def test_enough_samples_of_no_task_open_one_and_leave_the_others_as_they_are() -> None:
    model = LifelongModel(Trainable, fit, classes=10, enough=120)
    il = IncrementalLearning(model, strategy=Replay(2000))
    said, weights = [], []
    for part in (A.train, Part(B.train.x[:80], B.train.y[:80]), Part(B.train.x[80:], B.train.y[80:])):
        for this in il.rounds(*part):
            said.append(model.learn(this))
            weights.append(model.get())
    assert said[0] == Learned(opened=(0,))
    assert said[1].opened == () and 60 <= said[1].waiting == len(weights[1]["waiting"])  # they lie in the memory
    assert said[2].opened == (1,) and not said[2].trained
    assert all(np.array_equal(array, weights[2][name]) for name, array in weights[0].items() if "/" in name)
    assert (model.choose(B.test.x) == 1).mean() > 0.85


def test_a_task_learns_on_from_its_own_samples_and_gets_a_new_class() -> None:
    zero_to_eight, nine = task(range(9), upright, 700), task([9], upright, 1200)
    model = LifelongModel(Trainable, fit, classes=2, enough=20)
    il = IncrementalLearning(model, strategy=Replay(2000))
    for this in il.rounds(*zero_to_eight.train):
        model.learn(this)
    before = model.get()
    known = model.choose(nine.train.x) == 0  # nines that look like a digit that it knows
    for this in il.rounds(nine.train.x[known], nine.train.y[known]):
        said = model.learn(this)
    assert said.trained == (0,) and said.opened == () and model.tasks[0].classes == tuple(range(10))
    assert model.get()["task/0/means"].shape == (10, 64) and before["task/0/means"].shape == (9, 64)
    assert (model(zero_to_eight.test.x).argmax(1) == zero_to_eight.test.y).mean() > 0.85


def test_a_sample_goes_to_the_task_of_its_attributes() -> None:
    """The last number of a sample is its site, and its images look alike at all of them."""

    def at(site: int, part: Part) -> Array:
        return np.concatenate([part.x, np.full((len(part.x), 1), site, np.float32)], 1)

    model = LifelongModel(Trainable, fit, classes=10, enough=100, inputs=lambda x: x[:64],
                          attributes=lambda x: {"site": int(x[64])})  # fmt: skip
    x = np.concatenate([at(1, A.train), at(2, A.train)])
    il = IncrementalLearning(model, strategy=Replay(2000))
    for this in il.rounds(x, np.concatenate([A.train.y, (A.train.y + 1) % 10])):  # one digit, another name
        said = model.learn(this)
    assert said.opened == (0, 1) and [each.attributes for each in model.tasks] == [{"site": "1"}, {"site": "2"}]
    assert (model(at(1, A.test)).argmax(1) == A.test.y).mean() > 0.85
    assert (model(at(2, A.test)).argmax(1) == (A.test.y + 1) % 10).mean() > 0.85
    assert (model.choose(at(3, A.test)) == -1).all()
    model.open(x[:300], A.train.y[:300], {"site": 3})
    assert (model.choose(at(3, A.test)) == 2).mean() > 0.8


def test_the_file_holds_all_tasks(both: LifelongModel, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(dumps(both.get()))
    other = LifelongModel(Trainable)  # as a serving script makes it: no task, and no way to train
    load(other, file)
    assert np.array_equal(other(A.test.x), both(A.test.x)) and np.array_equal(other(B.test.x), both(B.test.x))
    with TensorFile(file) as written:
        assert {name.split("/")[1] for name in written.tensors if "/" in name} == {"0", "1"}


def test_a_version_with_more_or_fewer_tasks_is_set(both: LifelongModel) -> None:
    one = model_of(A)
    alone = one.get()
    served = copy.deepcopy(one)  # as a candidate beside the serving version
    load_grown(served, both.get())
    assert len(served.tasks) == 2 and len(one.tasks) == 1
    assert np.array_equal(served(B.test.x), both(B.test.x))
    load_grown(served, alone)
    assert len(served.tasks) == 1 and np.array_equal(served(A.test.x), one(A.test.x))


def test_a_set_of_weights_is_a_copy(both: LifelongModel) -> None:
    arrays = both.get()
    other = LifelongModel(Trainable)
    other.set(arrays)
    said = other(A.test.x)
    for array in arrays.values():
        array[...] = 0
    assert np.array_equal(other(A.test.x), said)


@pytest.mark.parametrize(("name", "array", "field"), [
    ("classes", None, "classes"),
    ("classes", np.array([1]), "classes"),
    ("classes", np.array([10**9]), "classes"),
    ("classes", np.array([10.0]), "classes"),
    ("waiting", None, "waiting"),
    ("waiting", np.zeros((2, 2), np.int64), "waiting"),
    ("task/1/means", None, "task/1/means"),
    ("task/1/means", np.full((10, 64), np.nan, np.float32), "task/1/means"),
    ("task/1/means", np.zeros((9, 64), np.float32), "task/1/means"),
    ("task/1/axes", np.zeros((3, 63), np.float32), "task/1/axes"),
    ("task/1/axes", np.zeros(3, np.float32), "task/1/axes"),
    ("task/1/limits", np.array([1, 0], np.float32), "task/1/limits"),
    ("task/1/limits", np.array([-1, 1], np.float32), "task/1/limits"),
    ("task/1/variances", np.array([1], np.int32), "task/1/variances"),
    ("task/1/classes", np.array([3, 2], np.int32), "task/1/classes"),
    ("task/1/classes", np.array([10], np.int32), "task/1/classes"),
    ("task/1/classes", np.array([], np.int32), "task/1/classes"),
    ("task/1/attributes", np.frombuffer(b"[]", np.uint8), "task/1/attributes"),
    ("task/1/attributes", np.zeros(2, np.float32), "task/1/attributes"),
    ("task/1/else", np.zeros(1), "task/1/else"),
    ("task/3/means", np.zeros(1), "task"),
    ("task/999/means", np.zeros(1), "task/999/means"),
    ("task/01/means", np.zeros(1), "task/01/means"),
    ("w1", np.zeros(1), "w1"),
])  # fmt: skip
def test_a_file_of_another_model_changes_nothing(
    both: LifelongModel, name: str, array: Array | None, field: str
) -> None:
    arrays = both.get()
    arrays.pop(name, None)
    if array is not None:
        arrays[name] = array
    before = both(A.test.x)
    with pytest.raises(Refused, match=f"field {field}: expected") as error:
        both.set(arrays)
    assert error.value.code in ("bad-weights", "bad-argument")
    assert len(both.tasks) == 2 and np.array_equal(both(A.test.x), before)


@pytest.mark.parametrize("options", [{"classes": 1}, {"classes": 2.0}, {"enough": 9}, {"make": 3}, {"train": "fit"},
                                     {"inputs": 1}, {"make": object}])  # fmt: skip
def test_a_bad_argument_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        LifelongModel(**{"make": Trainable, **options})


def test_learning_needs_train_enough_samples_and_numbers() -> None:
    with pytest.raises(Refused, match=r"field train: expected train\(model, x, y\)"):
        LifelongModel(Trainable).open(*A.train)
    with pytest.raises(Refused, match="field x: expected 10 samples or more"):
        LifelongModel(Trainable, fit).open(A.train.x[:9], A.train.y[:9])
    with pytest.raises(Refused, match="field x: expected samples as arrays of numbers"):
        LifelongModel(Trainable, fit).open(["a text"] * 20, [0, 1] * 10)


def test_features_are_bounded_and_one_row_for_each_sample() -> None:
    with pytest.raises(Refused, match=r"field features: expected up to 16,384 numbers .*LifelongModel\(features=...\)"):
        LifelongModel(lambda: Trainable(inputs=20_000), lambda *_: None).open(np.zeros((20, 20_000)), [0, 1] * 10)
    with pytest.raises(Refused, match=r"field features: .* for each of 16 samples, got shape \(3, 2\)"):
        LifelongModel(Trainable, fit, features=lambda model, x: np.zeros((3, 2))).open(*[each[:20] for each in A.train])


def test_a_diverged_training_leaves_the_tasks_as_they_were(both: LifelongModel) -> None:
    def diverge(model: Trainable, x: Array, y: Array) -> None:
        model.weights["w1"][:] = np.nan

    model = LifelongModel(Trainable, diverge, classes=10)
    model.set(both.get())
    with pytest.raises(Refused, match="finite scores"):
        model.open(*A.train)
    assert len(model.tasks) == 2 and np.array_equal(model(A.test.x), both(A.test.x))


def test_a_round_that_is_trained_again_gives_the_same_model(both: LifelongModel) -> None:
    first, again = both.get(), model_of(A).get()
    assert all(np.array_equal(array, first[name]) for name, array in again.items() if name.startswith("task/0/"))
