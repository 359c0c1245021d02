"""Tuning: the curve equals the rule's own decisions on the samples, and the choice is its best point."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.core.errors import HeliographError, Refused
from heliograph.inference.calibration import calibrate
from heliograph.inference.hard_samples import choose
from heliograph.inference.tuning import Curve, LabelledSet, Point, curve, from_arrays, page, plot, read_labelled, tune

Array = np.ndarray[Any, Any]
RULES = ("energy", "entropy", "ibt", "margin", "router", "threshold", "unknown")


def softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    found: Array = raised / raised.sum(1, keepdims=True)
    return found


def classified(samples: int = 1500, seed: int = 0, overconfidence: float = 2.0) -> LabelledSet:
    """Return the set of an overconfident edge that is right about half the time, and a cloud with accuracy 0.97."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (samples, 5))
    labels = np.array([rng.choice(5, p=p) for p in softmax(logits)])
    cloud = np.where(rng.random(samples) < 0.97, labels, (labels + 1) % 5)
    return from_arrays(softmax(logits * overconfidence).astype(np.float32), cloud, labels)


@st.composite
def sets(draw: st.DrawFn) -> LabelledSet:
    """Draw few samples, many of them alike or at the ends, some unreadable; each model is right or wrong."""
    shares = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 1 / 3, 1e-9, 1 - 1e-9, math.nan])
    rows = draw(st.lists(st.lists(shares, min_size=1, max_size=3), min_size=1, max_size=12))
    bools = st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)).map(lambda each: np.array(each, bool))
    return LabelledSet(rows, draw(bools), draw(bools))


def served(data: LabelledSet, rule: str, parameters: Any, temperature: float = 1.0) -> tuple[float, float]:
    """Return offload and accuracy if the rule itself decides on each sample, as in a worker."""
    decide = choose(rule, parameters)
    hard = np.array([decide(calibrate(row, temperature)) for row in data.edge_scores])
    return float(hard.mean()), float(np.where(hard, data.cloud_correct, data.edge_correct).mean())


def assert_curve_is_the_rules(found: Curve, data: LabelledSet, rule: str) -> None:
    for value, offload, accuracy in zip(found.values, found.offload, found.accuracy, strict=True):
        parameters = {**found.parameters, found.parameter: float(value)}
        assert served(data, rule, parameters, found.temperature) == pytest.approx((offload, accuracy), abs=1e-12)


@settings(deadline=None)
@given(sets(), st.sampled_from([1.0, 0.3, 3.0]))
@pytest.mark.parametrize("rule", RULES)
def test_every_point_equals_the_rules_own_decisions(rule: str, data: LabelledSet, temperature: float) -> None:
    found = curve(data, rule, {}, temperature)
    assert_curve_is_the_rules(found, data, rule)
    assert (np.diff(found.offload) > 0).all()
    assert (found.edge_accuracy, found.cloud_accuracy) == (data.edge_correct.mean(), data.cloud_correct.mean())


@settings(deadline=None)
@given(sets(), st.floats(0, 1))
@pytest.mark.parametrize("rule", ["threshold", "margin", "entropy", "ibt"])
def test_every_value_of_the_parameter_lies_on_the_curve(rule: str, data: LabelledSet, value: float) -> None:
    found = curve(data, rule, {})
    offload, _ = served(data, rule, {found.parameter: value})
    assert np.abs(found.offload - offload).min() < 1e-12


@settings(deadline=None)
@given(sets(), st.floats(0, 1))
@pytest.mark.parametrize("rule", ["threshold", "entropy"])
def test_the_choice_is_the_best_point_of_the_curve(rule: str, data: LabelledSet, wanted: float) -> None:
    found = curve(data, rule, {})
    choice = found.for_accuracy(wanted)
    enough = found.offload[found.accuracy >= wanted - 1e-12]
    assert choice.reached == bool(len(enough))
    if choice.reached:
        assert choice.point.accuracy >= wanted - 1e-12
        assert choice.point.offload == enough.min()
    else:
        assert choice.point.accuracy == found.accuracy.max() < wanted
    choice = found.for_offload(wanted)
    within = found.accuracy[found.offload <= wanted + 1e-12]
    assert choice.reached == bool(len(within))
    if choice.reached:
        assert choice.point.offload <= wanted + 1e-12
        assert choice.point.accuracy == within.max()
    else:
        assert choice.point.offload == found.offload.min() > wanted


def test_a_small_curve_equals_the_one_computed_by_hand() -> None:
    data = LabelledSet([[0.9], [0.8], [0.6], [0.7]], np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 1], bool))
    found = curve(data, "threshold", {"value": 0.2})
    assert found.offload.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.accuracy.tolist() == [0.5, 0.75, 1, 0.75, 0.75]
    assert found.values == pytest.approx([0, 0.65, 0.75, 0.85, 1])
    assert found.for_accuracy(0.75).point == Point(found.values[1], 0.25, 0.75)
    assert found.for_offload(0.6).point == Point(found.values[2], 0.5, 1.0)
    assert found.for_offload(0.6).sentence() == "accuracy 1.0000 with 50.0 % offloaded"


@pytest.mark.parametrize("rule", ["entropy", "margin", "router", "threshold"])
def test_tuned_parameters_reach_the_promised_accuracy_and_offload(rule: str) -> None:
    data = classified()
    tuned = tune(data, rule, {}, target_accuracy=0.8)
    assert tuned.choice.reached
    assert tuned.calibration is not None
    assert tuned.temperature == pytest.approx(2.0, rel=0.2)
    point = tuned.choice.point
    assert served(data, rule, tuned.parameters, tuned.temperature) == pytest.approx((point.offload, point.accuracy))
    assert point.accuracy >= 0.8
    edge, cloud = tuned.curve.edge_accuracy, tuned.curve.cloud_accuracy
    by_guessing = (point.accuracy - edge) / (cloud - edge)
    assert point.offload < by_guessing - 0.03  # by_guessing: offload of the same accuracy with a random rule
    most = tune(data, rule, {}, max_offload=point.offload)
    assert most.choice.point.accuracy >= point.accuracy


def test_an_unreachable_target_reports_the_best_accuracy() -> None:
    tuned = tune(classified(), "threshold", {}, target_accuracy=0.9999)
    assert not tuned.choice.reached
    assert tuned.choice.point.accuracy == tuned.curve.accuracy.max()
    assert re.fullmatch(
        r"accuracy 0\.9999 cannot be reached with this rule; the nearest is accuracy 0\.9\d+ with [\d.]+ % offloaded",
        tuned.choice.sentence(),
    )


def test_samples_with_unreadable_scores_are_always_offloaded() -> None:
    right = np.ones(2, bool)
    tuned = tune(LabelledSet([[math.nan], [1.0]], right, right), "threshold", {}, max_offload=0.2)
    assert (tuned.choice.reached, tuned.choice.point.offload) == (False, 0.5)
    assert tuned.choice.sentence().startswith("an offload of 20.0 % cannot be reached")


def test_parameters_that_are_not_tuned_stay() -> None:
    data = LabelledSet([[0.6, 0.9], [0.6, 0.6], []], np.array([1, 0, 1], bool), np.ones(3, bool))
    tuned = tune(data, "ibt", {"threshold_box": 0.7, "threshold_img": 0.1}, target_accuracy=1.0)
    assert tuned.parameters["threshold_box"] == 0.7
    assert tuned.choice.point.offload == pytest.approx(1 / 3)
    assert tuned.calibration is None
    given_one = tune(classified(), "threshold", {}, max_offload=0.3, temperature=1.5)
    assert (given_one.temperature, given_one.calibration) == (1.5, None)


def test_untunable_rules_and_unfit_scores_are_refused() -> None:
    data = classified(50)
    with pytest.raises(Refused, match=r"field rule: expected a rule that reads the scores: .*, got never"):
        tune(data, "never", {}, max_offload=0.5)
    for rule in ("threshold", "router"):
        with pytest.raises(Refused, match=r"parameters\.valu: expected one of"):
            tune(data, rule, {"valu": 1}, max_offload=0.5)
    logits = LabelledSet(np.array([[0.5, 0.5], [4.0, -1.0]]), np.ones(2, bool), np.ones(2, bool))
    with pytest.raises(Refused, match=r"edge_scores\[1\]: expected probabilities that sum to 1, .* Put a softmax"):
        tune(logits, "threshold", {}, max_offload=0.5)
    assert tune(logits, "energy", {}, max_offload=0.5).choice.reached
    with pytest.raises(ValueError, match="either"):
        tune(data, "threshold", {}, max_offload=0.5, target_accuracy=0.5)


def test_an_npz_is_read_with_scores_or_answers_of_the_cloud(tmp_path: Path) -> None:
    edge = np.array([[0.9, 0.1], [0.5, 0.5], [np.nan, 1.0], [0.2, 0.8]], np.float32)
    labels = np.array([0, 0, 1, 0])
    np.savez(tmp_path / "scores.npz", edge_scores=edge, cloud_scores=edge[[0, 0, 1, 3]], labels=labels, more=1)
    np.savez(tmp_path / "labels.npz", edge_scores=edge, cloud_labels=np.array([0, 0, 0, 1]), labels=labels)
    for name in ("scores.npz", "labels.npz"):
        data = read_labelled(tmp_path / name)
        assert data.edge_correct.tolist() == [True, True, False, False]
        assert data.cloud_correct.tolist() == [True, True, False, False]
        assert data.labels is not None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": [0]}, "field edge_scores: expected an array of this name, got the arrays labels"),
        ({"edge_scores": [[1.0]], "labels": [0]}, "field cloud_scores or cloud_labels: expected an array"),
        ({}, "field edge_scores: expected an array of this name, got no array at all"),
        ({"edge_scores": [[[1.0]]], "labels": [0], "cloud_labels": [0]}, "field edge_scores: expected numbers"),
        ({"edge_scores": [["a"]], "labels": [0], "cloud_labels": [0]}, "field edge_scores: expected numbers"),
        ({"edge_scores": [[1.0]], "labels": [0.5], "cloud_labels": [0]}, "field labels: expected whole numbers of sh"),
        ({"edge_scores": [[1.0]], "labels": [2], "cloud_labels": [0]}, "field labels: expected classes from 0 to 1"),
        ({"edge_scores": [[1.0]], "labels": [0], "cloud_labels": [0, 0]}, "field cloud_labels: expected scores of sh"),
        ({"edge_scores": [[1.0]], "labels": [0], "cloud_scores": [[1.0, 0, 0]]}, r"cloud_scores: .* shape \(1, 3\)"),
        ({"edge_scores": np.zeros((0, 2)), "labels": np.zeros(0, int), "cloud_labels": np.zeros(0, int)}, "one sample"),
        ({"edge_scores": np.array([{}]), "labels": [0], "cloud_labels": [0]}, "expected an npz file of plain arrays"),
    ],
)
def test_the_error_names_the_file_and_its_bad_array(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    file = tmp_path / "set.npz"
    np.savez(file, **{name: np.asarray(each) for name, each in arrays.items()})  # type: ignore[arg-type]
    with pytest.raises(Refused, match=message) as refused:
        read_labelled(file)
    assert refused.value.topic == str(file)


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HeliographError, match=r"cannot read .*gone.npz: No such file"):
        read_labelled(tmp_path / "gone.npz")
    for content in (b"", b"PK\x03\x04 no archive", b"text"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(Refused, match=r"bad.npz: expected an npz file"):
            read_labelled(tmp_path / "bad.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(Refused, match=r"one.npy: expected an npz file"):
        read_labelled(tmp_path / "one.npy")


def test_the_terminal_plot_shows_the_curve_and_the_choice() -> None:
    tuned = tune(classified(300), "threshold", {}, target_accuracy=0.8)
    shown = plot(tuned.curve, tuned.choice, width=60, height=12)
    assert "threshold · 300 samples" in shown
    assert shown.count("●") == 1
    assert max(map(len, shown.splitlines())) <= 60
    assert "●" not in plot(tuned.curve)


def svg_of(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", text, re.DOTALL).group())  # type: ignore[union-attr]


def test_the_page_loads_nothing_and_is_accessible() -> None:
    tuned = tune(classified(300), "threshold", {}, target_accuracy=0.8)
    text = page(tuned.curve, tuned.choice, title="a <script> & more")
    assert "<script" not in text
    assert "a &lt;script&gt; &amp; more" in text
    assert not re.search(r"(src|href|url)\s*[=(]", text)
    assert "prefers-color-scheme: dark" in text
    assert '<html lang="en">' in text
    svg = svg_of(text)
    ids = {each.get("id"): each.text for each in svg.iter() if each.get("id")}
    assert set(svg.attrib["aria-labelledby"].split()) == set(ids)
    assert svg.attrib["role"] == "img"
    assert tuned.choice.sentence() in (ids["about"] or "")
    words = [each.text for each in svg.iter("text")]
    assert "accuracy" in words
    assert "samples sent to the cloud" in words


@settings(deadline=None)
@given(sets())
def test_the_page_of_any_curve_keeps_within_its_frame(data: LabelledSet) -> None:
    found = curve(data, "threshold", {})
    svg = svg_of(page(found, found.for_accuracy(0.9)))
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    points = [each.split(",") for each in svg.find("polyline").attrib["points"].split()]  # type: ignore[union-attr]
    assert len(points) == len(found.values)
    assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in points)
    for each in svg.iter("text"):
        assert 0 <= float(each.attrib["y"]) <= height
    assert 2 <= len([each for each in svg.iter("line") if each.get("class") == "grid"]) <= 11


def test_a_long_curve_is_thinned_for_display_only() -> None:
    tuned = tune(classified(5000), "threshold", {}, max_offload=0.2)
    assert len(tuned.curve.values) > 4000
    assert len(page(tuned.curve, tuned.choice)) < 20_000


@pytest.mark.quality
def test_ten_thousand_samples_are_tuned_in_seconds() -> None:
    data = classified(10_000)
    start = time.perf_counter()
    tune(data, "threshold", {}, target_accuracy=0.8)
    assert time.perf_counter() - start < 3
