"""Decide whether a step of the loop begins: by samples, time, metrics or drift. Pure.

Times are seconds since 1970. Nothing is polled: ``next_look`` says when time alone may change the decision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from heliograph.bus.contract.resources.triggers import Drift, MetricDrop, Triggers
from heliograph.core.errors import Refused
from heliograph.incremental.cron import Cron


@dataclass(frozen=True)
class TriggerFacts:
    """What triggers are asked about.

    Attributes:
        new_samples: labelled samples that no training has used.
        began: time at which this step last began, or the job did.
        scheduled_from: time from which a schedule counts; ``began``, or later where the step waited for nothing before.
        looked: time of the last look that counted, for ``check_seconds``.
        metrics: metrics of what serves as they were last measured; ``deployed`` as they were at its deployment.
        drifting: (what, detector) to the share of edges that have seen a drift since ``began``.
    """

    new_samples: int = 0
    began: float = 0.0
    scheduled_from: float = 0.0
    looked: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    deployed: Mapping[str, float] = field(default_factory=dict)
    drifting: Mapping[tuple[str, str], float] = field(default_factory=dict)


def check(triggers: Triggers, field: str, topic: str = "") -> None:
    """Raise Refused for a schedule that does not parse, and for a least time between two looks at a part: one look is
    at all conditions.

    Args:
        field: the trigger's path in its document.
    """
    for name, parts in (("any", triggers.any), ("all", triggers.all)):
        for place, part in enumerate(parts):
            path = f"{field}.{name}[{place}]"
            check(part, path, topic)
            if part.check_seconds:
                raise Refused("invalid", topic=topic, field=f"{path}.checkSeconds", expected="it once, beside any and "
                              "all", got=part.check_seconds, hint="Move it to the trigger itself.")  # fmt: skip
    if triggers.cron is None:
        return
    try:
        Cron.parse(triggers.cron)
    except Refused as error:
        of_part = (error.field or "").removeprefix("cron").strip(", ")
        expected = f"{of_part}: {error.expected}" if of_part else error.expected
        raise Refused(error.code, topic=topic, field=f"{field}.cron", expected=expected, got=error.got) from None


def decide(triggers: Triggers, facts: TriggerFacts, now: float) -> str | None:
    """Return why the step begins now, in a clause; None where it does not.

    A clock that was set back makes no step begin: ``began`` then lies ahead, and nothing has passed since.
    """
    return _reason(triggers, facts, now) if is_looked_at(triggers, facts, now) else None


def is_looked_at(triggers: Triggers, facts: TriggerFacts, now: float) -> bool:
    """Return whether the least time since the last look has passed."""
    return not 0 <= now - facts.looked < triggers.check_seconds


def next_look(triggers: Triggers, facts: TriggerFacts, now: float) -> float | None:
    """Return the first time after ``now`` at which a condition of time, or a look, is due; None where none will be."""
    found = [time for each in _all(triggers) for time in _times(each, facts)]
    if triggers.check_seconds:
        found.append(facts.looked + triggers.check_seconds)
    return min((time for time in found if time > now), default=None)


def detectors(triggers: Triggers) -> set[str]:
    """Return the detectors whose drift may begin the step."""
    return {each.drift.detector for each in _all(triggers) if each.drift is not None}


def metrics(triggers: Triggers) -> set[str]:
    """Return the metrics whose drop may begin the step."""
    return {each.metric_drop.metric for each in _all(triggers) if each.metric_drop is not None}


def is_empty(triggers: Triggers) -> bool:
    """Return whether no condition is given: the step begins by hand alone."""
    return not any(_conditions(each) for each in _all(triggers))


def _reason(triggers: Triggers, facts: TriggerFacts, now: float) -> str | None:
    reasons = [holds(triggers, facts, now) for holds in _conditions(triggers)]
    if triggers.any:
        reasons.append(next(filter(None, (_reason(each, facts, now) for each in triggers.any)), None))
    reasons.extend(_reason(each, facts, now) for each in triggers.all)
    if not reasons or None in reasons:
        return None
    return ", ".join(filter(None, reasons))


def _enough_samples(triggers: Triggers, facts: TriggerFacts, now: float) -> str | None:
    return f"{facts.new_samples} new samples" if facts.new_samples >= (triggers.new_samples or 1) else None


def _scheduled(triggers: Triggers, facts: TriggerFacts, now: float) -> str | None:
    due = _cron(triggers.cron or "").next_after(max(facts.began, facts.scheduled_from))
    return f"schedule {triggers.cron}" if due is not None and due <= now else None


def _long_ago(triggers: Triggers, facts: TriggerFacts, now: float) -> str | None:
    seconds = triggers.every_seconds or 0.0
    return f"{seconds:g} s since the last" if now - facts.began >= seconds else None


def _dropped(triggers: Triggers, facts: TriggerFacts, now: float) -> str | None:
    rule = triggers.metric_drop or MetricDrop(below=0.0)
    value, before = facts.metrics.get(rule.metric), facts.deployed.get(rule.metric)
    if value is None:
        return None
    if rule.below is not None and value < rule.below:
        return f"{rule.metric} {value:.4g} is below {rule.below:g}"
    if rule.by is not None and before is not None and before - value > rule.by:
        return f"{rule.metric} fell from {before:.4g} to {value:.4g}"
    return None


def _drifted(triggers: Triggers, facts: TriggerFacts, now: float) -> str | None:
    rule = triggers.drift or Drift()
    share = facts.drifting.get((rule.of, rule.detector), 0.0)
    if share <= 0 or share < rule.share:
        return None
    return f"drift of {rule.of} on {share:.0%} of the edges ({rule.detector})"


_Condition = Callable[[Triggers, TriggerFacts, float], str | None]
_CONDITIONS: dict[str, _Condition] = {
    "new_samples": _enough_samples,
    "cron": _scheduled,
    "every_seconds": _long_ago,
    "metric_drop": _dropped,
    "drift": _drifted,
}
"""Field of ``Triggers`` to the function that says why its condition holds, or None."""


def _conditions(triggers: Triggers) -> list[_Condition]:
    return [holds for name, holds in _CONDITIONS.items() if getattr(triggers, name) is not None]


def _times(triggers: Triggers, facts: TriggerFacts) -> Iterator[float]:
    """Yield the times at which a condition of these triggers alone begins to hold."""
    if triggers.every_seconds is not None:
        yield facts.began + triggers.every_seconds
    if triggers.cron is not None:
        due = _cron(triggers.cron).next_after(max(facts.began, facts.scheduled_from))
        if due is not None:
            yield due


def _all(triggers: Triggers) -> Iterator[Triggers]:
    yield triggers
    for part in triggers.parts:
        yield from _all(part)


@lru_cache(maxsize=256)
def _cron(text: str) -> Cron:
    return Cron.parse(text)
