"""The verdict on a challenger: a paired test, a floor for each class, a least support."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from heliograph.core.errors import Refused
from heliograph.gate import Gate, Outcome


def outcomes(
    both: int, gained: int = 0, lost: int = 0, neither: int = 0, label: str = "cat", first: int = 0
) -> Iterator[Outcome]:
    """Yield samples of one class that both models, one of them, or none gets right."""
    number = first
    for times, champion, challenger in ((both, True, True), (gained, False, True), (lost, True, False),
                                        (neither, False, False)):  # fmt: skip
        for _ in range(times):
            number += 1
            yield Outcome(f"{label}-{number}", label, label if champion else "?", label if challenger else "?")


def test_a_clear_gain_passes() -> None:
    verdict = Gate().judge(outcomes(400, gained=60, lost=20, neither=20), evaluation="v1")
    assert (verdict.decision, verdict.reasons, verdict.passes) == ("passes", (), True)
    assert (verdict.champion, verdict.challenger, verdict.gain) == (0.84, 0.92, pytest.approx(0.08))
    assert 0 < verdict.bound < verdict.gain
    assert (verdict.support, verdict.evaluation, verdict.test.gained) == (500, "v1", 60)


def test_a_difference_that_may_be_chance_does_not_pass() -> None:
    verdict = Gate().judge(outcomes(230, gained=11, lost=9))  # a bare difference would say: better
    assert verdict.gain > 0 and verdict.decision == "fails"
    assert "may be chance" in verdict.reasons[0]


def test_a_margin_lets_an_equally_good_model_through_and_no_worse_one() -> None:
    gate = Gate(margin=-0.02)
    assert gate.judge(outcomes(1000, gained=10, lost=10)).passes
    worse = gate.judge(outcomes(1000, gained=10, lost=60))
    assert (worse.decision, len(worse.reasons)) == ("fails", 1)
    assert "margin of -0.0200" in worse.reasons[0]
    assert not Gate(margin=-0.02).judge(outcomes(210, gained=4, lost=5)).passes  # too few to be sure of that


def test_the_same_model_again_is_no_gain() -> None:
    assert Gate().judge(outcomes(500)).decision == "fails"
    assert Gate(margin=-0.001).judge(outcomes(500)).passes


def test_a_class_below_its_floor_stops_a_gain_elsewhere() -> None:
    found = [*outcomes(400, gained=80, neither=20), *outcomes(20, lost=10, label="stop")]
    assert Gate().judge(found).passes
    for gate in (Gate(floor=0.7), Gate(floors={"stop": 0.9}), Gate(most_lost=0.1)):
        verdict = gate.judge(found)
        assert verdict.decision == "fails", gate
        (reason,) = verdict.reasons
        assert reason.startswith("class stop: recall")
    assert verdict.classes["stop"].support == 30
    assert verdict.classes["stop"].challenger == pytest.approx(2 / 3)


def test_too_few_samples_decide_nothing() -> None:
    verdict = Gate(least_support=200).judge(outcomes(50, gained=30))
    assert (verdict.decision, verdict.passes) == ("undecided", False)
    assert verdict.reasons == ("80 samples, at least 200 are needed",)


def test_a_class_with_a_floor_needs_its_support() -> None:
    found = [*outcomes(400, gained=80), *outcomes(4, label="stop")]
    verdict = Gate(floors={"stop": 0.9, "yield": 0.5}).judge(found)
    assert verdict.decision == "undecided"
    assert [each.split(",")[0] for each in verdict.reasons] == ["class stop: 4 samples", "class yield: 0 samples"]
    assert Gate(floor=0.9).judge([*outcomes(400, gained=80), *outcomes(0, neither=4, label="odd")]).passes


def test_what_fails_fails_also_with_too_few_samples() -> None:
    assert Gate().judge(outcomes(50, lost=20)).decision == "fails"


def test_the_order_of_outcomes_says_nothing() -> None:
    found = [*outcomes(400, gained=60, lost=20, neither=20)]
    assert Gate().judge(found) == Gate().judge(reversed(found))


@pytest.mark.parametrize("rule", [
    {"margin": 1.0}, {"margin": math.nan}, {"margin": -1.5}, {"confidence": 1.0}, {"confidence": 0.2}, {"floor": 1.1},
    {"floors": {"a": -0.1}}, {"most_lost": math.inf}, {"least_support": 0}, {"least_class_support": 2.5},
])  # fmt: skip
def test_a_rule_that_says_nothing_is_refused(rule: dict[str, object]) -> None:
    with pytest.raises(Refused) as refused:
        Gate(**rule)  # type: ignore[arg-type]
    assert refused.value.field.startswith(next(iter(rule)))


def test_a_sample_twice_or_none_at_all_is_refused() -> None:
    one = Outcome("s", "cat", "cat", "dog")
    with pytest.raises(Refused, match="each sample once"):
        Gate().judge([one, one])
    with pytest.raises(Refused) as refused:
        Gate().judge([])
    assert refused.value.code == "no-samples"
