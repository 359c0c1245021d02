"""Which task a labelled sample trains."""

from __future__ import annotations

import numpy as np
import pytest

from heliograph.lifelong.placing import NONE, placed


@pytest.mark.parametrize(("unknown", "answer", "settled", "expected"), [
    (0.9, 1, False, 0),  # known
    (1.1, 1, False, 0),  # nearly known, and answered right
    (1.1, 0, False, NONE),
    (1.6, 1, False, NONE),
    (9.0, 0, True, 0),  # a rare sample of the task that has been trained on it
    (np.inf, 1, True, NONE),  # no task has its attributes
    (np.inf, 1, False, NONE),
])  # fmt: skip
def test_a_sample_of_a_known_class(unknown: float, answer: int, settled: bool, expected: int) -> None:
    arrays = [np.array([each]) for each in (0, unknown, answer, 1, settled)]
    nearest, strangeness, answers, y, is_settled = arrays
    assert placed(nearest, strangeness, answers, y, [(0, 1)], is_settled.astype(bool)).tolist() == [expected]


@pytest.mark.parametrize(("known", "expected"), [(4, [0, 0, 0, 0, NONE]), (2, [NONE] * 5)])
def test_a_new_class_is_the_tasks_where_most_of_its_samples_are(known: int, expected: list[int]) -> None:
    unknown = np.array([0.5] * known + [3.0] * (5 - known))
    zeros = np.zeros(5, np.int64)
    assert placed(zeros, unknown, zeros, np.full(5, 7), [(0, 1)], np.zeros(5, bool)).tolist() == expected
