"""Figures on three tasks of scikit-learn's digits: the choice of the task, and what is told to be of none.

``kinds`` has three transforms of all ten digits, ``mixed`` two groups of digits beside turned negatives, and ``groups``
three groups of digits that nothing but their form tells apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from heliograph import IncrementalLearning
from heliograph.incremental.learning import Replay
from heliograph.lifelong import LifelongModel
from tests.lib.lifelong.digits_of_tasks import Digits, Trainable, Turn, fit, model_of, negative, task, turned, upright

NAMES = ("kinds", "mixed", "groups")
SPLITS = (1, 2, 3)
"""The axes of the distance were chosen on split 0, which says nothing here for that reason."""


def sets(name: str, split: int) -> tuple[Digits, ...]:
    parts: dict[str, tuple[tuple[Sequence[int], Turn], ...]] = {
        "kinds": ((range(10), upright), (range(10), negative), (range(10), turned)),
        "mixed": ((range(5), upright), (range(5, 10), upright), (range(10), lambda images: turned(negative(images)))),
        "groups": ((range(4), upright), (range(4, 7), upright), (range(7, 10), upright)),
    }
    return tuple(task(classes, turn, split=split) for classes, turn in parts[name])


@pytest.mark.quality
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", NAMES)
def test_the_right_task_is_chosen(name: str, split: int) -> None:
    tasks = sets(name, split)
    model = model_of(*tasks)
    nearest = [np.argmin([_strangeness(model, number, each) for number in range(3)], 0) for each in tasks]
    right = np.concatenate([each == number for number, each in enumerate(nearest)])
    accuracy = np.concatenate([model(each.test.x).argmax(1) == each.test.y for each in tasks]).mean()
    known = np.concatenate([model.unknown(each.test.x) <= 1 for each in tasks]).mean()
    print(f"{name} {split}: task {right.mean():.3f}, accuracy {accuracy:.3f}, known {known:.3f}")
    assert right.mean() >= 0.9 and accuracy >= 0.9 and known >= 0.85


@pytest.mark.quality
@pytest.mark.parametrize("stranger", range(3))
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", NAMES)
def test_samples_of_no_task_are_unknown(name: str, split: int, stranger: int) -> None:
    from sklearn.metrics import roc_auc_score

    tasks = sets(name, split)
    known = [each for number, each in enumerate(tasks) if number != stranger]
    model = model_of(*known)
    numbers = [model.unknown(each.test.x) for each in (*known, tasks[stranger])]
    is_strange = np.concatenate([np.full(len(each), place == 2) for place, each in enumerate(numbers)])
    area = roc_auc_score(is_strange, np.concatenate(numbers))
    print(f"{name} {split}, task {stranger} unknown: AUROC {area:.3f}")
    assert area >= 0.9  # below 0.5 the sign would be turned


@pytest.mark.quality
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", NAMES)
def test_a_stream_opens_one_task_for_each(name: str, split: int) -> None:
    tasks = sets(name, split)
    model = LifelongModel(Trainable, fit, classes=10, enough=100)
    il = IncrementalLearning(model, strategy=Replay(2000))
    opened = [_learn(model, il, each) for each in tasks]
    accuracy = np.concatenate([model(each.test.x).argmax(1) == each.test.y for each in tasks]).mean()
    print(f"{name} {split}: opened {opened}, accuracy {accuracy:.3f}")
    assert [sum(each) for each in opened] == [1, 1, 1]
    assert accuracy >= 0.85


def _learn(model: LifelongModel, il: IncrementalLearning, given: Digits) -> Sequence[int]:
    """Learn a task's samples in rounds of 150, and return how many tasks each opened."""
    opened = []
    for start in range(0, len(given.train.y), 150):
        part = slice(start, start + 150)
        for this in il.rounds(given.train.x[part], given.train.y[part]):
            opened.append(len(model.learn(this).opened))
    return opened


def _strangeness(model: LifelongModel, number: int, given: Digits) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    known = model.tasks[number]
    return known.unknown(given.test.x, known.probabilities(given.test.x, model.classes))
