"""An update that moved far more than the median of its round is refused, and honest differences are not."""

from __future__ import annotations

import numpy as np
import pytest

from heliograph.bus.contract.weights_file import TensorFile, dumps
from heliograph.workers.aggregation.checks import check_weights, norm_of
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


def test_the_distance_is_measured_with_the_check_and_does_not_overflow() -> None:
    base = {"w": np.arange(300_000, dtype=np.float32), "n": np.array(3), "h": np.zeros(4, np.float16)}
    update = {**base, "w": base["w"] + np.float32(2), "n": np.array(9), "h": np.ones(4, np.float16)}
    with TensorFile(dumps(base)) as file:
        layout = dict(file.tensors)
    checked = check_weights(dumps(update), layout, dumps(base))
    assert checked.distance == pytest.approx((4 * 300_000 + 4) ** 0.5)  # over the floating-point values alone
    assert check_weights(dumps(update), layout).distance is None
    huge = {"w": np.full(4, 3e38, np.float32)}
    with TensorFile(dumps(huge)) as file:
        far = check_weights(dumps({"w": -huge["w"]}), file.tensors, dumps(huge)).distance
    assert far == pytest.approx(1.2e39)
    assert norm_of(dumps(huge)) == pytest.approx(6e38)
