"""Metrics as scripts report them: whatever comes, a round is never lost for a metric."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.federated import FederatedLearning, Round
from heliograph.metrics import MAX_METRICS, Metrics, measured

NUMBER = "expected a number, an array of one element, or a list of one number for each epoch"


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the warnings and the loops of earlier tests."""
    monkeypatch.setattr("heliograph.metrics._warned", set())
    monkeypatch.setattr("heliograph.federated._local_loops", 0)


@pytest.mark.parametrize(
    ("value", "number"),
    [(0.5, 0.5), (True, 1.0), (np.bool_(False), 0.0), (np.float32(0.25), 0.25), (np.array([[3]]), 3.0), ([0.5], 0.5),
     ([np.float32(2)], 2.0), (Fraction(1, 4), 0.25), (10**20, 1e20)],
)  # fmt: skip
def test_a_number_in_any_of_its_forms_is_taken_without_a_word(value: Any, number: float) -> None:
    r = Round(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        r.report(loss=value)
    assert r.metrics == {"loss": number}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("a", math.nan, "is nan, and is left out: training has diverged"), ("b", -math.inf, "is -inf, and is left out"),
     ("c", None, f"is left out: {NUMBER}, got None"), ("d", "0.5", "got 0.5"), ("e", {"f1": 0.5}, "got a dict of 1"),
     ("f", (0.1, 0.9), "got a tuple of 2"), ("g", np.arange(3.0), r"got an array of shape \(3,\)"),
     ("h", [], "got a list of 0"), ("i", 1j, "got 1j"), ("j", [0.5, "x"], "got a list of 2"),
     ("k", 1 << 2000, "got 1148")],
)  # fmt: skip
def test_what_is_no_number_is_left_out_and_named_at_the_scripts_line(name: str, value: Any, said: str) -> None:
    r = Round(1)
    with pytest.warns(UserWarning, match=f"report: metric {name} .*{said}") as warned:
        r.report(**{name: value, "kept": 0.5})
    assert r.metrics == {"kept": 0.5}
    assert [each.filename for each in warned] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Round(2).report(**{name: value})  # once is enough: a run has many rounds


def test_of_a_history_of_several_epochs_the_last_value_is_taken_and_said() -> None:
    r = Round(1)
    with pytest.warns(UserWarning, match="metric history_loss is a list of 2 numbers: the last is taken"):
        r.report(history_loss=[0.5, 0.25])
    assert r.metrics == {"history_loss": 0.25}


def test_a_round_keeps_as_many_metrics_as_an_update_may_carry() -> None:
    r = Round(1)
    with pytest.warns(UserWarning, match=f"a round has at most {MAX_METRICS} metrics"):
        r.report(**{f"m{number}": number for number in range(MAX_METRICS + 1)})
    r.report(m0=7)
    assert (len(r.metrics), r.metrics["m0"]) == (MAX_METRICS, 7)


class Keras:
    """What a Keras 3 model tells about its metrics: ``metrics_names`` names the container of the compiled ones."""

    metrics_names = ("loss", "compile_metrics")

    def get_metrics_result(self) -> dict[str, float]:
        return {"loss": 0.3, "accuracy": 0.9}


class KerasOfLossAlone:
    def get_metrics_result(self) -> dict[str, float]:
        return {"loss": 0.3}


class Keras2:
    metrics_names = ("loss", "mae")


@pytest.mark.parametrize(
    ("result", "model", "metrics"),
    [(0.5, None, {"accuracy": 0.5}), (np.float32(0.5), None, {"accuracy": 0.5}), ([0.5], None, {"accuracy": 0.5}),
     ({"f1": 0.5}, None, {"f1": 0.5}), ([0.3, 0.9], Keras(), {"loss": 0.3, "accuracy": 0.9}),
     ((0.3, 0.9), Keras2(), {"loss": 0.3, "mae": 0.9}), (0.3, KerasOfLossAlone(), {"loss": 0.3}),
     (0.9, KerasOfLossAlone(), {"accuracy": 0.9}), (0.9, Keras(), {"accuracy": 0.9})],
)  # fmt: skip
def test_an_evaluation_is_a_number_metrics_by_name_or_keras_list(result: Any, model: Any, metrics: Any) -> None:
    assert measured(result, model) == metrics


@pytest.mark.parametrize(
    ("result", "said"),
    [((0.1, 0.9), 'got a tuple of 2; name them: return {"loss": loss'),
     ({"evaluated": math.nan}, "metric evaluated is"), (["x", "y"], "got a list of 2"),
     ({"unsaid": None}, "metric unsaid is left out")],
)  # fmt: skip
def test_an_evaluation_that_is_no_metric_costs_the_worker_nothing(result: Any, said: str) -> None:
    with pytest.warns(UserWarning) as warned:
        for _ in FederatedLearning({"w": np.zeros(1)}, evaluate=lambda: result).rounds():
            pass
    assert said in str(warned[0].message)
    assert warned[0].filename == __file__


@given(st.dictionaries(st.text(max_size=150), st.floats() | st.none() | st.text() | st.integers(), max_size=80))
def test_whatever_is_reported_only_finite_numbers_stay(given: dict[str, Any]) -> None:
    found = Metrics("report")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.add(given)
    assert all(math.isfinite(value) for value in found.values())
    assert len(found) <= MAX_METRICS


def test_a_round_counts_from_0_as_the_loop_that_it_replaces() -> None:
    epochs = list(FederatedLearning({"w": np.zeros(1)}).rounds(3))
    assert epochs == [0, 1, 2] == list(range(3))
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    last = epochs[-1]
    assert (f"{last:03d}", str(last), last % 2 == 0, "abc"[last], 10 - last) == ("002", "2", True, "c", 8)
    assert 0.1 * 0.95**last == pytest.approx(0.1 * 0.95 * 0.95)
    assert np.arange(5)[last] == 2
    for again in (copy.deepcopy(last), pickle.loads(pickle.dumps(last))):  # noqa: S301
        assert (again, again.number, again.local) == (2, 3, True)
        again.report(loss=1)


def test_the_number_of_the_present_round_is_known_before_within_and_after_the_loop() -> None:
    fl = FederatedLearning({"w": np.zeros(1)})
    seen = [fl.round, *(fl.round for _ in fl.rounds(2)), fl.round]
    assert (seen, fl.edge) == ([0, 1, 2, 2], "")


def test_a_second_loop_is_warned_of_alone_since_a_job_refuses_it() -> None:
    fl = FederatedLearning({"w": np.zeros(1)})
    list(fl.rounds(2))
    with pytest.warns(UserWarning, match="in a job it is refused") as warned:
        list(fl.rounds(2))
    assert warned[0].filename == __file__
