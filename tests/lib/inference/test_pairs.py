"""Training the pair: gradients, thresholds and neighbours equal their definitions, computed by brute force."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from heliograph.core.errors import Refused
from heliograph.inference.pairs import (
    OBJECTIVES,
    class_thresholds,
    class_weights,
    decide,
    distillation,
    nearest,
    pair_weights,
    soft_targets,
)

Array = np.ndarray[Any, Any]


def batch(samples: int = 6, classes: int = 4, seed: int = 0) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, 2, (2, samples, classes))
    return student, teacher, rng.integers(0, classes, samples)


class TestDistillation:
    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    @pytest.mark.parametrize("labelled", [True, False])
    def test_the_gradient_is_that_of_the_loss(self, share: float, labelled: bool) -> None:
        student, teacher, labels = batch()
        settings_ = {"labels": labels if labelled else None, "temperature": 3.0, "share": share}
        weights = np.array([0.5, 1.0, 2.0, 4.0])
        _, gradient = distillation(student, teacher, **settings_, class_weights=weights)  # type: ignore[arg-type]
        step = 1e-6
        for place in np.ndindex(student.shape):
            moved = np.zeros_like(student)
            moved[place] = step
            above, _ = distillation(student + moved, teacher, **settings_, class_weights=weights)  # type: ignore[arg-type]
            below, _ = distillation(student - moved, teacher, **settings_, class_weights=weights)  # type: ignore[arg-type]
            assert gradient[place] == pytest.approx((above - below) / (2 * step), abs=1e-6)

    def test_the_soft_targets_are_the_papers_and_a_copy_of_the_teacher_has_no_gradient(self) -> None:
        _, teacher, _ = batch()
        targets = soft_targets(teacher, 2.0)
        raised = np.exp(teacher / 2)
        np.testing.assert_allclose(targets, raised / raised.sum(1, keepdims=True))
        np.testing.assert_allclose(distillation(teacher + 5, teacher)[1], 0, atol=1e-12)
        assert soft_targets(teacher, 1e6) == pytest.approx(0.25, abs=1e-5)

    def test_labels_alone_are_the_ordinary_cross_entropy(self) -> None:
        student, teacher, labels = batch()
        loss, _ = distillation(student, teacher, labels, share=0.0)
        p = np.exp(student) / np.exp(student).sum(1, keepdims=True)
        assert loss == pytest.approx(-np.log(p[np.arange(6), labels]).mean())

    def test_the_gradient_has_the_students_type_and_large_logits_do_no_harm(self) -> None:
        student = np.array([[1e4, -1e4], [0, 0]], np.float32)
        loss, gradient = distillation(student, -student, np.array([1, 0]))
        assert gradient.dtype == np.float32
        assert np.isfinite(gradient).all()
        assert math.isfinite(loss)

    def test_loss_and_gradient_equal_torchs(self, framework: Callable[[str], ModuleType]) -> None:
        torch = framework("torch")
        student, teacher, labels = batch()
        logits = torch.tensor(student, requires_grad=True)
        soft = torch.nn.functional.cross_entropy(logits / 3, torch.from_numpy(soft_targets(teacher, 3.0))) * 9
        hard = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        (0.7 * soft + 0.3 * hard).backward()
        _, gradient = distillation(student, teacher, labels, temperature=3.0, share=0.7)
        np.testing.assert_allclose(logits.grad.numpy(), gradient, atol=1e-9)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"temperature": 0.0}, "temperature: expected a number above 0, got 0.0"),
            ({"temperature": math.nan}, "temperature: expected a number above 0, got nan"),
            ({"share": 1.1}, "share: expected a number from 0 to 1, got 1.1"),
            ({"teacher": np.zeros((6, 3))}, r"student: expected the teacher's shape \(6, 3\), got \(6, 4\)"),
            ({"teacher": np.full((6, 4), np.nan)}, "teacher: expected finite float logits"),
            ({"student": np.zeros((6, 4), int)}, "student: expected finite float logits, samples × classes, got int64"),
            ({"labels": np.full(6, 4)}, "labels: expected 6 whole numbers from 0 to 3"),
            ({"labels": np.zeros(5, int)}, r"labels: expected 6 whole numbers from 0 to 3, got int64 of shape \(5,\)"),
        ],
    )
    def test_the_error_names_the_argument_that_does_not_fit(self, change: dict[str, Any], message: str) -> None:
        student, teacher, labels = batch()
        with pytest.raises(Refused, match=message):
            distillation(**{"student": student, "teacher": teacher, "labels": labels, **change})


class TestObjectives:
    def test_the_rare_class_weighs_more_for_recall_and_less_for_precision(self) -> None:
        labels = np.repeat([0, 1], [90, 10])
        found = pair_weights(labels, 3)
        assert set(found) == set(OBJECTIVES) == {"edge", "cloud"}
        assert found["edge"][1] / found["edge"][0] == pytest.approx(3)  # sqrt(90 / 10)
        assert found["cloud"][0] / found["cloud"][1] == pytest.approx(3)
        assert found["edge"][2] == found["cloud"][2] == 1  # without samples
        assert all(weights[labels].mean() == pytest.approx(1) for weights in found.values())
        balanced = class_weights(labels, 3, "recall", strength=1)
        assert balanced[0] * 90 == pytest.approx(balanced[1] * 10)
        assert class_weights(labels, 3, "precision", strength=0).tolist() == [1, 1, 1]

    @settings(deadline=None)
    @given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.sampled_from(["recall", "precision"]))
    def test_weights_of_any_labels_are_positive_and_their_mean_is_1(self, labels: list[int], objective: str) -> None:
        weights = class_weights(np.array(labels), 5, objective)
        assert (weights > 0).all()
        assert weights[labels].mean() == pytest.approx(1)

    @settings(deadline=None)
    @given(st.data(), st.sampled_from(["recall", "precision"]), st.floats(0, 1))
    def test_each_threshold_is_the_best_possible(self, data: st.DataObject, objective: str, wanted: float) -> None:
        shares = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
        scores = np.array(data.draw(st.lists(st.tuples(shares, shares), min_size=1, max_size=15)))
        labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(scores), max_size=len(scores))))
        for each, found in enumerate(class_thresholds(scores, labels, objective, wanted)):
            there = labels == each
            all_of_them: list[Any] = []
            for value in np.unique(scores[:, each]):
                positive = scores[:, each] >= value
                hits = (positive & there).sum()
                all_of_them.append((hits / there.sum() if there.any() else None, hits / positive.sum(), value))
            assert (found.recall, found.precision, found.value) in all_of_them
            if not there.any():
                assert (found.reached, found.recall) == (False, None)
                continue
            enough = [one for one in all_of_them if one[objective == "precision"] >= wanted - 1e-12]
            assert found.reached == bool(enough)
            if objective == "recall":  # a threshold at the lowest score reaches every recall
                assert found.value == max(value for *_, value in enough)
            elif enough:
                assert found.value == min(value for *_, value in enough)
            else:
                assert found.precision == max(precision for _, precision, _ in all_of_them)

    def test_answers_under_thresholds(self) -> None:
        labels = np.array([0, 0, 1, 1])
        scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.2, 0.8]])
        thresholds = class_thresholds(scores, labels, "precision", 1.0)
        assert [each.value for each in thresholds] == [0.4, 0.7]
        assert [(each.recall, each.precision, each.reached) for each in thresholds] == [(1.0, 1.0, True)] * 2
        assert decide(np.array([[0.5, 0.5], [0.3, 0.6], [0.8, 0.75], [0.7, 0.7]]), thresholds).tolist() == [0, -1, 0, 0]

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: class_weights(np.array([0]), 1, "speed"), "objective: expected recall or precision, got speed"),
            (lambda: class_weights(np.array([0]), 1, "recall", 2), "strength: expected a number from 0 to 1, got 2"),
            (lambda: class_weights(np.array([1]), 1, "recall"), "labels: expected whole numbers from 0 to 0"),
            (lambda: class_weights(np.array([], int), 1, "recall"), "labels: expected whole numbers"),
            (lambda: class_thresholds(np.zeros(3), np.zeros(3, int), "recall", 1), "scores: expected finite float"),
            (lambda: class_thresholds(np.ones((1, 1)), np.array([0]), "best", 1), "objective: expected recall or prec"),
            (lambda: class_thresholds(np.ones((1, 1)), np.array([0]), "recall", 97), "wanted: expected a number"),
            (lambda: class_thresholds(np.ones((2, 1)), np.array([0]), "recall", 1), "labels: expected 2 whole numbers"),
        ],
    )
    def test_the_error_names_the_argument_that_does_not_fit(self, call: Callable[[], object], message: str) -> None:
        with pytest.raises(Refused, match=message):
            call()


class TestNearest:
    whole = st.integers(-50, 50)

    @settings(deadline=None)
    @given(st.data(), st.integers(0, 12), st.sampled_from([1, 2, 7, 100_000]))
    def test_every_block_size_equals_brute_force(self, data: st.DataObject, count: int, block: int) -> None:
        """Whole numbers add up exactly in any order, so ties stay ties."""
        wide = data.draw(st.integers(1, 3))
        own = data.draw(arrays.arrays(np.float32, (data.draw(st.integers(1, 4)), wide), elements=self.whole))
        public = data.draw(arrays.arrays(np.int64, (data.draw(st.integers(0, 10)), wide), elements=self.whole))
        found = nearest(own, public, count, block=block)
        distances = np.sqrt(((public[:, None] - own[None]) ** 2).sum(2)).min(1, initial=np.inf)
        wanted = np.lexsort((np.arange(len(public)), distances))[:count]
        assert found.indices.tolist() == wanted.tolist()
        assert found.distances == pytest.approx(distances[wanted])
        assert np.sqrt(((public[found.indices] - own[found.to]) ** 2).sum(1)) == pytest.approx(found.distances)

    def test_cosine_compares_directions_only(self) -> None:
        own = np.array([[1.0, 0.0]])
        public = np.array([[0, 3.0], [1e200, 0], [2, 2], [-5, 0], [0, 0], [np.nan, 1]])
        found = nearest(own, public, 10, metric="cosine")
        assert found.indices.tolist() == [1, 2, 0, 3]
        assert found.distances == pytest.approx([0, 1 - 0.5**0.5, 1, 2])

    def test_samples_that_are_not_finite_are_never_selected(self) -> None:
        public = np.array([[np.nan, 0], [3, 0], [np.inf, 0], [1e300, 0], [1, 0]])
        assert nearest(np.zeros((1, 2)), public, 5).indices.tolist() == [4, 1]

    def test_far_from_the_origin_the_nearest_is_still_found(self) -> None:
        own = np.array([[1e9, 0], [1e9 + 1, 0]])
        found = nearest(own, np.array([[1e9 + 0.9, 0]]), 1)
        assert found.to.tolist() == [1]
        assert found.distances == pytest.approx([0.1], rel=1e-3)

    def test_a_mapped_file_is_read_in_blocks(self, tmp_path: Any) -> None:
        import tracemalloc

        rng = np.random.default_rng(0)
        public = rng.normal(size=(200_000, 16)).astype(np.float32)
        np.save(tmp_path / "public.npy", public)
        mapped = np.load(tmp_path / "public.npy", mmap_mode="r")
        tracemalloc.start()
        found = nearest(public[[7, 11]], mapped, 100, block=2**16)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.indices[:2].tolist() == [7, 11]
        assert peak < 4 * 1024 * 1024 < mapped.nbytes / 3

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: nearest(np.zeros((0, 2)), np.zeros((3, 2)), 1), "own: expected at least one .* no sample"),
            (lambda: nearest(np.full((1, 2), np.nan), np.zeros((3, 2)), 1), "own: .* no finite numbers .* sample 0"),
            (lambda: nearest(np.zeros((1, 2)), np.ones((3, 2)), 1, metric="cosine"), "own: .* direction in sample 0"),
            (lambda: nearest(np.zeros((1, 2)), np.zeros((3, 3)), 1), "public: expected numbers, samples × 2, got"),
            (lambda: nearest(np.zeros(2), np.zeros((3, 2)), 1), "own: expected numbers, samples × dimensions"),
            (lambda: nearest(np.zeros((1, 2)), np.zeros((3, 2)), -1), "count: expected a number from 0, got -1"),
        ],
    )
    def test_the_error_names_the_argument_that_does_not_fit(self, call: Callable[[], object], message: str) -> None:
        with pytest.raises(Refused, match=message):
            call()
