"""An update that moved far more than the median of its round is refused, and honest differences are not."""

from __future__ import annotations

import pytest

from heliograph.workers.aggregation.outliers import far_updates


def _far(*distances: float, factor: float = 10.0, base: float = 0.0) -> set[str]:
    return set(far_updates({str(number): each for number, each in enumerate(distances)}, factor, lambda: base))


def test_one_that_moved_thirty_times_the_median_is_named_with_the_reason() -> None:
    found = far_updates({"a": 1.0, "b": 1.2, "c": 30.0, "d": 0.9}, 10, lambda: 5.0)
    assert set(found) == {"c"}
    assert "at most 10; the median of the round is 1, norm_factor 10, got 30" in found["c"]


@pytest.mark.parametrize(
    ("distances", "base"),
    [
        ((1.0, 9.0, 0.2, 1.0), 0.0),  # within ten times the median
        ((0.0, 0.0, 0.0, 3.0), 40.0),  # the others have converged; it moved less than a tenth of the base
        ((0.0, 0.0, 0.0), 0.0),
        ((1.0, 100.0), 0.0),  # of two nobody knows which is right
    ],
)
def test_honest_differences_are_not_refused(distances: tuple[float, ...], base: float) -> None:
    assert _far(*distances, base=base) == set()


def test_the_bound_can_be_turned_off_and_the_base_is_not_read_in_vain() -> None:
    assert _far(1, 1, 1000, factor=0) == set()
    distances = {"a": 1.0, "b": 1.0, "c": 2.0}
    assert far_updates(distances, 10, lambda: pytest.fail("nothing is far")) == {}
