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
from tests.lib.lifelong.digits_of_tasks import Digits, Trainable, fit, model_of, negative, task, turned

SETS = {
    "kinds": (task(range(10)), task(range(10), negative), task(range(10), turned)),
    "mixed": (task(range(5)), task(range(5, 10)), task(range(10), lambda images: turned(negative(images)))),
    "groups": (task(range(4)), task(range(4, 7)), task(range(7, 10))),
}


@pytest.mark.quality
@pytest.mark.parametrize("name", SETS)
def test_the_right_task_is_chosen(name: str) -> None:
    tasks = SETS[name]
    model = model_of(*tasks)
    nearest = [np.argmin([_strangeness(model, number, each) for number in range(3)], 0) for each in tasks]
    right = np.concatenate([each == number for number, each in enumerate(nearest)])
    accuracy = np.concatenate([model(each.test.x).argmax(1) == each.test.y for each in tasks]).mean()
    known = np.concatenate([model.unknown(each.test.x) <= 1 for each in tasks]).mean()
    print(f"{name}: task {right.mean():.3f}, accuracy {accuracy:.3f}, known {known:.3f}")
    assert right.mean() >= 0.9 and accuracy >= 0.9 and known >= 0.85


@pytest.mark.quality
@pytest.mark.parametrize("stranger", range(3))
@pytest.mark.parametrize("name", SETS)
def test_samples_of_no_task_are_unknown(name: str, stranger: int) -> None:
    from sklearn.metrics import roc_auc_score

    known = [each for number, each in enumerate(SETS[name]) if number != stranger]
    model = model_of(*known)
    numbers = [model.unknown(each.test.x) for each in (*known, SETS[name][stranger])]
    is_strange = np.concatenate([np.full(len(each), place == 2) for place, each in enumerate(numbers)])
    area = roc_auc_score(is_strange, np.concatenate(numbers))
    print(f"{name}, task {stranger} unknown: AUROC {area:.3f}")
    assert area >= 0.9  # below 0.5 the sign would be turned


@pytest.mark.quality
@pytest.mark.parametrize("name", SETS)
def test_a_stream_opens_one_task_for_each(name: str) -> None:
    model = LifelongModel(Trainable, fit, classes=10, enough=100)
    il = IncrementalLearning(model, strategy=Replay(2000))
    opened = [_learn(model, il, each) for each in SETS[name]]
    accuracy = np.concatenate([model(each.test.x).argmax(1) == each.test.y for each in SETS[name]]).mean()
    print(f"{name}: opened {opened}, accuracy {accuracy:.3f}")
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
