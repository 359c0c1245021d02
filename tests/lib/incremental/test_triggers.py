"""Triggers: each condition, all of them together, one of several, and what a clock that is set back does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.resources.triggers import Triggers
from heliograph.core.errors import Refused
from heliograph.incremental.triggers import TriggerFacts, check, decide, is_empty, next_look

NOW = 1_700_000_000.0
DRIFTING = {("scores", "page-hinkley"): 0.5}


def triggers(**fields: Any) -> Triggers:
    return Triggers.model_validate(fields)


@pytest.mark.parametrize(
    ("given", "facts", "reason"),
    [
        ({"newSamples": 5}, {"new_samples": 4}, None),
        ({"newSamples": 5}, {"new_samples": 5}, "5 new samples"),
        ({"everySeconds": 60}, {"began": NOW - 59}, None),
        ({"everySeconds": 60}, {"began": NOW - 60}, "60 s since the last"),
        ({"cron": "* * * * *"}, {"began": NOW - 1}, None),
        ({"cron": "* * * * *"}, {"began": NOW - 60}, "schedule * * * * *"),
        ({"metricDrop": {"below": 0.9}}, {"metrics": {"accuracy": 0.89}}, "accuracy 0.89 is below 0.9"),
        ({"metricDrop": {"below": 0.9}}, {"metrics": {"accuracy": 0.9}}, None),
        ({"metricDrop": {"below": 0.9}}, {}, None),
        ({"metricDrop": {"by": 0.1}}, {"metrics": {"accuracy": 0.7}, "deployed": {"accuracy": 0.9}},
         "accuracy fell from 0.9 to 0.7"),
        ({"metricDrop": {"by": 0.1}}, {"metrics": {"accuracy": 0.7}}, None),
        ({"drift": {}}, {"drifting": DRIFTING}, "drift of scores on 50% of the edges (page-hinkley)"),
        ({"drift": {"share": 0.6}}, {"drifting": DRIFTING}, None),
        ({"drift": {"of": "features"}}, {"drifting": DRIFTING}, None),
        ({}, {"new_samples": 10**6}, None),
        ({"newSamples": 1, "everySeconds": 60}, {"new_samples": 9}, "9 new samples, 60 s since the last"),
        ({"newSamples": 10, "everySeconds": 60}, {"new_samples": 9}, None),
        ({"any": [{"newSamples": 10}, {"everySeconds": 60}]}, {"new_samples": 9}, "60 s since the last"),
        ({"any": [{"newSamples": 10}, {"drift": {}}]}, {"new_samples": 9}, None),
        ({"all": [{"newSamples": 9}, {"any": [{"drift": {}}, {"everySeconds": 1}]}]}, {"new_samples": 9},
         "9 new samples, 1 s since the last"),
        ({"newSamples": 1, "any": [{}]}, {"new_samples": 9}, None),
        ({"newSamples": 1, "checkSeconds": 60}, {"new_samples": 9, "looked": NOW - 59}, None),
        ({"newSamples": 1, "checkSeconds": 60}, {"new_samples": 9, "looked": NOW - 60}, "9 new samples"),
        ({"cron": "* * * * *"}, {"began": NOW - 3600, "scheduled_from": NOW - 1}, None),
        ({"cron": "* * * * *"}, {"began": NOW - 3600, "scheduled_from": NOW - 60}, "schedule * * * * *"),
        ({"metricDrop": {"metric": "f1", "below": 0.9}}, {"metrics": {"accuracy": 0.1, "f1": 0.8}},
         "f1 0.8 is below 0.9"),
        ({"metricDrop": {"metric": "f1", "by": 0.1}}, {"metrics": {"f1": 0.7}, "deployed": {"accuracy": 0.9}}, None),
        ({"metricDrop": {"metric": "f1", "by": 0.1}}, {"metrics": {"f1": 0.7}, "deployed": {"f1": 0.9}},
         "f1 fell from 0.9 to 0.7"),
        ({"metricDrop": {"by": 0.1, "below": 0.5}}, {"metrics": {"accuracy": 0.6}, "deployed": {"accuracy": 0.9}},
         "accuracy fell from 0.9 to 0.6"),
    ],
)  # fmt: skip
def test_a_trigger_holds_where_its_conditions_do(given: Any, facts: Any, reason: str | None) -> None:
    assert decide(triggers(**given), TriggerFacts(**facts), NOW) == reason


def test_a_clock_that_was_set_back_begins_nothing_by_time() -> None:
    wanted = triggers(any=[{"everySeconds": 60}, {"cron": "* * * * *"}])
    assert decide(wanted, TriggerFacts(began=NOW + 3600), NOW) is None
    assert decide(triggers(newSamples=1, checkSeconds=60), TriggerFacts(9, looked=NOW + 3600), NOW) == "9 new samples"


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.sampled_from([
    {"everySeconds": 700}, {"cron": "*/7 * * * *"}, {"any": [{"everySeconds": 900}, {"cron": "3 * * * *"}]},
    {"everySeconds": 300, "cron": "*/2 * * * *"}, {"newSamples": 1, "checkSeconds": 450},
]))  # fmt: skip
def test_nothing_begins_between_two_looks(began: int, later: int, given: Any) -> None:
    """Whoever looks at ``next_look`` only misses nothing that time alone brings."""
    wanted, facts = triggers(**given), TriggerFacts(1, began=NOW + began, looked=NOW + began)
    now = NOW + began + later
    if decide(wanted, facts, now) is None:
        due = next_look(wanted, facts, now)
        assert due is not None and due > now
        between = now + (due - now) * 0.999
        assert decide(wanted, facts, between) is None


def test_without_a_condition_a_step_begins_by_hand_alone() -> None:
    assert is_empty(triggers()) and is_empty(triggers(any=[{}], checkSeconds=3))
    assert not is_empty(triggers(all=[{"any": [{"newSamples": 1}]}]))
    assert next_look(triggers(newSamples=3), TriggerFacts(), NOW) is None


HELD = TriggerFacts(new_samples=5, began=NOW - 3600, metrics={"f1": 0.4}, deployed={"f1": 0.9}, drifting=DRIFTING)
PARTS: list[tuple[dict[str, Any], bool]] = [
    ({"newSamples": 5}, True), ({"cron": "* * * * *"}, True), ({"everySeconds": 60}, True),
    ({"metricDrop": {"metric": "f1", "by": 0.1}}, True), ({"drift": {"share": 0.5}}, True),
    ({"newSamples": 6}, False), ({"cron": "0 0 29 2 *"}, False), ({"everySeconds": 7200}, False),
    ({"metricDrop": {"metric": "f1", "below": 0.3}}, False), ({"drift": {"of": "features"}}, False),
]  # fmt: skip
"""Triggers, and whether each holds on ``HELD``."""


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=6))
def test_any_holds_where_one_does_and_all_where_all_do(parts: list[tuple[dict[str, Any], bool]]) -> None:
    documents, held = [part for part, _ in parts], [holds for _, holds in parts]
    assert (decide(triggers(any=documents), HELD, NOW) is not None) == any(held)
    assert (decide(triggers(all=documents), HELD, NOW) is not None) == all(held)
    nested = triggers(any=[{"all": documents}, {"newSamples": 99}], all=[{"any": documents}])
    assert (decide(nested, HELD, NOW) is not None) == all(held)
    beside = triggers(newSamples=5, any=documents)
    assert (decide(beside, HELD, NOW) is not None) == any(held), "what stands beside any has to hold too"


@pytest.mark.parametrize(
    ("given", "field"),
    [({"cron": "* * *"}, "spec.train.cron"),
     ({"any": [{"all": [{}, {"cron": "61 * * * *"}]}]}, "spec.train.any[0].all[1].cron"),
     ({"any": [{"newSamples": 1, "checkSeconds": 60}]}, "spec.train.any[0].checkSeconds")],
)  # fmt: skip
def test_what_no_loop_can_follow_is_refused_with_its_place(given: Any, field: str) -> None:
    with pytest.raises(Refused) as refused:
        check(triggers(**given), "spec.train")
    assert refused.value.field == field
