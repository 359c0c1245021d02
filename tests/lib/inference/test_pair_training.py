"""PairTraining: what is trained on, what is measured, and the steps of a job in processes that come and go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph import PairTraining, session
from heliograph.bus.contract.resources.pair_plan import (
    PairEvaluation,
    PairFigures,
    PairPlan,
    PairStep,
    SelectionFigures,
    SelectionRule,
)
from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.core.errors import Refused
from heliograph.incremental.samples import samples_of
from heliograph.inference.pairs.samples import Selection, divide, select
from heliograph.session import PairWork

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
CENTRES = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]], np.float32)
PLAN = {"evaluation": {"heldOut": 40}, "selection": {"count": 60}, "tuning": {"offload": 0.5}}


def blobs(number: int, seed: int = 0) -> tuple[Array, Array]:
    """Return samples of three classes, each around its centre."""
    rng = np.random.default_rng(seed)
    y = np.arange(number) % 3
    return (CENTRES[y] + rng.normal(0, 1.0, (number, 2))).astype(np.float32), y


def model(features: int) -> Weights:
    return {"w": np.zeros((features, 3), np.float32), "b": np.zeros(3, np.float32)}


def seen(weights: Weights, x: Array) -> Array:
    """The shallow model sees the first coordinate alone."""
    return np.asarray(x)[:, : len(weights["w"])]


def scores(weights: Weights, x: Array) -> Array:
    return np.asarray(seen(weights, x) @ weights["w"] + weights["b"])


def train(part: Any, passes: int = 20) -> None:
    for batch in part.batches(16, passes):
        loss, error = batch.loss(scores(part.model, batch.x))
        part.model["w"] -= 0.2 * seen(part.model, batch.x).T @ error
        part.model["b"] -= 0.2 * error.sum(0)
    part.report(loss=loss)


def pair_of(plan: Mapping[str, Any] | None = None, **options: Any) -> PairTraining:
    return PairTraining(model(1), model(2), predict=scores, outputs="logits", plan=plan or PLAN, **options)


def test_a_script_trains_both_models_by_itself_the_deep_one_first() -> None:
    x, y = blobs(120)
    public, _ = blobs(200, 1)
    pair, parts = pair_of(), []
    for part in pair.parts(x, y, public):
        parts.append((part.side, part.objective, part.teacher is not None, part.local, len(part.model["w"])))
        train(part)
    assert parts == [("cloud", "precision", False, True, 2), ("edge", "recall", True, True, 1)]
    figures, selected = pair.figures, pair.selected
    assert figures is not None and selected is not None
    assert selected.selected == 60 and selected.nearest <= selected.farthest
    assert figures.cloud_accuracy > figures.edge_accuracy, "the shallow one cannot tell two of the classes"
    assert figures.parameters and figures.after != figures.before
    assert figures.tuned_on + figures.measured_on == sum(len(each) for each in (
        divide(samples_of(x, y), None, PairEvaluation(held_out=40)).held_out,
    ))  # fmt: skip
    assert set(figures.classes) == {"0", "1", "2"} and not figures.unmeasured


def test_objectives_and_distillation_are_fields_of_the_plan() -> None:
    x, y = blobs(90)
    x, y = np.concatenate([x, x[y == 0][:20] + 0.01]), np.concatenate([y, np.zeros(20, np.int64)])
    plan = {**PLAN, "edge": {"objective": "precision", "strength": 1}, "cloud": {"objective": "recall", "strength": 0},
            "distillation": {"share": 0}}  # fmt: skip
    weights = {}
    for part in pair_of(plan).parts(x, y):
        weights[part.side] = part.class_weights
        assert part.teacher is None, "a share of 0 trains on the labels alone"
        assert np.allclose(part.targets, np.eye(3)[part.y]) and len(part.sample_weights) == len(part)
        train(part, 2)
    assert np.allclose(weights["cloud"], 1) and weights["edge"][0] > weights["edge"][1], "0 is the frequent class"


@given(st.integers(20, 80), st.integers(1, 80), st.integers(0, 5), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_nobody_trains_on_what_measures(number: int, public: int, seed: int, held_out: int) -> None:
    """Also where the public data set has the very samples, and the developer's own come twice."""
    x, y = blobs(number, seed)
    x, y = np.concatenate([x, x[:5]]), np.concatenate([y, y[:5]])
    try:
        divided = divide(samples_of(x, y), None, PairEvaluation(held_out=held_out, salt=str(seed)))
    except Refused as error:
        assert error.code == "no-samples"
        return
    parts = [set(each.ids()) for each in (divided.train, divided.tunes, divided.measures)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(set(samples_of(x, y).ids()))
    others = np.concatenate([x.astype(np.float64), blobs(public, seed + 9)[0]])  # of another type
    selection, figures = select(divided, others, SelectionRule(count=public))
    chosen = samples_of(others[selection.indices].astype(np.float32), np.zeros(len(selection.indices), np.int64))
    assert not set(chosen.ids()) & set(divided.held_out.ids())
    assert figures.selected == len(selection.indices) <= public and figures.public == len(others)
    assert (np.diff(selection.distances) >= 0).all()


def test_labels_of_selected_samples_are_the_nearest_ones_or_their_own() -> None:
    x, y = blobs(90)
    public = CENTRES + np.float32(0.01)
    wrong = np.array([1, 2, 0])
    for rule, expected in (("nearest", [0, 1, 2]), ("public", [1, 2, 0])):
        plan = {**PLAN, "selection": {"count": 3, "labels": rule}}
        part = next(iter(pair_of(plan).parts(x, y, public, wrong)))
        found = {tuple(row): label for row, label in zip(part.x.tolist(), part.y.tolist(), strict=True)}
        assert [found[tuple(row)] for row in public.tolist()] == expected


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({"public": np.full((9, 2), np.nan, np.float32)}, "no-samples", "none of 9 with a finite embedding"),
        ({"public": np.full((9, 2), 99, np.float32), "plan": {"selection": {"mostDistance": 1}}}, "no-samples",
         "Raise selection.mostDistance"),
        ({"public": np.zeros((0, 2), np.float32)}, "no-samples", "none of 0"),
        ({"public": np.zeros((9, 3), np.float32)}, "bad-shape", "public_x"),
        ({"public": np.zeros((9, 2), np.float32), "plan": {"selection": {"labels": "public"}}}, "no-labels",
         "public_y"),
        ({"y": np.zeros(60, np.int64)}, "missing-class", "none of 1"),
        ({"y": np.arange(60) % 3, "classes": ["a", "b", "c", "d"]}, "missing-class", "none of d"),
        ({"y": np.where(np.arange(60) % 3 == 1, 0, np.arange(60) % 3)}, "missing-class", "none of 1"),
        ({"x": np.zeros((0, 2), np.float32), "y": np.zeros(0, np.int64)}, "no-samples", "to train on"),
        ({"x": blobs(2)[0], "y": blobs(2)[1]}, "no-samples", "evaluation.heldOut"),
        ({"evaluation_x": blobs(30, 3)[0]}, "bad-argument", "evaluation_y"),
        ({"y": np.arange(60) % 5}, "", ""),
    ],
)  # fmt: skip
def test_bad_data_are_refused_with_what_to_do(given: dict[str, Any], code: str, words: str) -> None:
    x, y = blobs(60)
    plan, options = {**PLAN, **given.get("plan", {})}, {"classes": given.get("classes")}
    further = {"evaluation_x": given["evaluation_x"]} if "evaluation_x" in given else {}
    loop = pair_of(plan, **options).parts(given.get("x", x), given.get("y", y), given.get("public"), **further)
    if not code:  # a head of three gets a row for each of five classes
        assert next(iter(loop)).model["w"].shape == (2, 5)
        return
    with pytest.raises(Refused, match=words) as caught:
        list(loop)
    assert caught.value.code == code


def test_models_that_fail_in_training_or_measuring_are_refused() -> None:
    x, y = blobs(90)
    with pytest.raises(Refused, match="lower the learning rate"):
        for part in pair_of().parts(x, y):
            part.model["w"][:] = np.nan
    with pytest.raises(Refused, match="probabilities that sum to 1"):
        for part in PairTraining(model(1), model(2), predict=scores, plan=PLAN).parts(x, y):
            train(part, 2)
    with pytest.raises(Refused, match="another model than edge"):
        PairTraining(same := model(1), same, predict=scores)
    with pytest.raises(Refused, match="predict"):
        PairTraining(model(1), model(2))
    with pytest.raises(Refused, match=r"selection.count"):
        pair_of({"selection": {"count": 0}})
    with pytest.raises(Refused, match="size"):
        next(iter(pair_of().parts(x, y))).batches(0)


def test_a_metric_that_is_no_number_speaks_against_the_pair() -> None:
    x, y = blobs(90)
    pair = pair_of(evaluate=lambda: {"accuracy": 0.5, "drift": float("nan")})
    for part in pair.parts(x, y):
        train(part, 2)
    assert pair.figures is not None
    assert pair.figures.against == ["metric drift is nan"] and pair.figures.metrics == {"accuracy": 0.5}


def test_a_selection_of_other_data_is_refused() -> None:
    fits = {"indices": np.array([0, 4]), "to": np.array([1, 1]), "distances": np.array([0.1, 0.2])}
    assert len(Selection.of(fits, own=2, public=5).indices) == 2
    for changes in ({"indices": np.array([0, 5])}, {"to": np.array([0, 2])}, {"to": np.array([0])},
                    {"indices": np.array([-1, 0])}, {"indices": np.array([0.0, 1.0])}):  # fmt: skip
        with pytest.raises(Refused, match="other data"):
            Selection.of({**fits, **changes}, own=2, public=5)


@dataclass
class FakePairSession:
    """A pair worker in a test: it hands out steps, and keeps what the script sends."""

    works: list[PairWork]
    further_datasets: Mapping[str, Path] = field(default_factory=dict)
    edge: str = "cloud"
    job: str = "digits"
    dataset: Path | None = None
    dataset_samples: int = 0
    parameters: dict[str, Any] = field(default_factory=lambda: {"rate": 0.2})
    sent: list[Any] = field(default_factory=list)

    def begin_rounds(self, rounds: Iterator[Any]) -> None:
        self.loop = rounds

    def next_step(self) -> PairWork | None:
        return self.works.pop(0) if self.works else None

    def send_selection(self, arrays: Mapping[str, Array], selected: SelectionFigures, classes: Sequence[str]) -> None:
        self.sent.append((dict(arrays), selected, list(classes)))

    def send_model(
        self, arrays: Mapping[str, Array], classes: Sequence[str], num_samples: int, metrics: dict[str, float],
        seconds: float,
    ) -> None:  # fmt: skip
        assert seconds >= 0 and num_samples > 0
        self.sent.append((dict(arrays), dict(metrics), list(classes)))

    def send_figures(self, figures: PairFigures) -> None:
        self.sent.append(figures)


def _work(step: PairStep, **files: Mapping[str, Array]) -> PairWork:
    opened: dict[str, Any] = {name: TensorFile(dumps(arrays)) for name, arrays in files.items()}
    return PairWork(step, "digits", 1, PairPlan.model_validate(PLAN), **opened)


def _run(monkeypatch: pytest.MonkeyPatch, *works: PairWork, **data: Any) -> list[Any]:
    """Run the script in a new process, as it were, for these steps."""
    job = FakePairSession(list(works))
    monkeypatch.setattr(session, "pairing", job)
    x, y = blobs(120)
    for part in pair_of({"selection": {"count": 1}}).parts(x, y, blobs(200, 1)[0], **data):
        assert not part.local and part.parameters == {"rate": 0.2}
        train(part)
    return job.sent


def test_a_worker_that_is_killed_before_each_step_makes_what_one_makes_that_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ((chosen, selected, _),) = _run(monkeypatch, _work("selecting"))
    assert selected.selected == 60, "the job's plan stands above the script's"
    ((deep, metrics, _),) = _run(monkeypatch, _work("training-cloud", selection=chosen))
    assert set(metrics) == {"loss"}
    ((shallow, _, _),) = _run(monkeypatch, _work("training-edge", selection=chosen, cloud=deep))
    (figures,) = _run(monkeypatch, _work("measuring", cloud=deep, edge=shallow))
    alive = _run(
        monkeypatch, _work("selecting"), _work("training-cloud", selection=chosen),
        _work("training-edge", selection=chosen, cloud=deep), _work("measuring", cloud=deep, edge=shallow),
    )  # fmt: skip
    assert all(np.array_equal(alive[1][0][name], deep[name]) for name in deep)
    assert all(np.array_equal(alive[2][0][name], shallow[name]) for name in shallow)
    assert alive[3] == figures


def test_a_training_starts_from_the_version_that_the_job_names(monkeypatch: pytest.MonkeyPatch) -> None:
    ((chosen, _, _),) = _run(monkeypatch, _work("selecting"))
    base = {"w": np.full((2, 3), 7, np.float32), "b": np.zeros(3, np.float32)}
    ((warm, _, _),) = _run(monkeypatch, _work("training-cloud", selection=chosen, weights=base))
    ((cold, _, _),) = _run(monkeypatch, _work("training-cloud", selection=chosen))
    assert not np.allclose(warm["w"], cold["w"])
    with pytest.raises(Refused):
        _run(monkeypatch, _work("training-cloud", selection=chosen, weights={"w": np.zeros((5, 3), np.float32)}))


def test_a_script_that_does_not_give_the_jobs_data_or_has_another_loop_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, y = blobs(60)
    job = FakePairSession([_work("selecting")], {"evaluation": Path("test.npz")})
    monkeypatch.setattr(session, "pairing", job)
    with pytest.raises(Refused, match=r"heliograph.dataset\('evaluation'\)"):
        list(pair_of().parts(x, y))
    from heliograph import FederatedLearning, IncrementalLearning

    for loop in (lambda: FederatedLearning(model(1)).rounds(),
                 lambda: IncrementalLearning(model(1), predict=lambda x: x).rounds(x, y)):  # fmt: skip
        with pytest.raises(Refused, match=r"PairTraining\(edge=shallow, cloud=deep\).parts"):
            loop()
    monkeypatch.setattr(session, "pairing", None)
    monkeypatch.setattr(session, "learning", job)
    with pytest.raises(Refused, match="of an IncrementalLearningJob"):
        pair_of().parts(x, y)


def test_texts_and_an_estimator_of_scikit_learn() -> None:
    pytest.importorskip("sklearn")
    from sklearn.linear_model import SGDClassifier

    x, y = blobs(120)
    pair = PairTraining(SGDClassifier(loss="log_loss", random_state=0),
                        SGDClassifier(loss="log_loss", random_state=1), plan=PLAN)  # fmt: skip
    for part in pair.parts(x, np.array(["a", "b", "c"])[y]):
        for _ in range(5):
            part.model.partial_fit(part.x, part.y, sample_weight=part.sample_weights)
    assert pair.figures is not None and set(pair.figures.classes) == {"a", "b", "c"}
    texts = np.array([f"text {number}" for number in range(60)], object)
    with pytest.raises(Refused, match="embed"):
        list(pair_of().parts(texts, np.arange(60) % 3, texts))
