"""Every target of the fuzzer."""

from __future__ import annotations

from heliograph.core.errors import HeliographError
from heliograph.simulations.input_fuzz.target import Target
from heliograph.simulations.input_fuzz.targets import coordinator, datasets, documents, journal, texts, traces, weights
from heliograph.simulations.input_fuzz.targets.self_test import SELF_TEST

TARGETS: dict[str, Target] = {
    each.name: each
    for module in (documents, coordinator, weights, journal, traces, datasets, texts)
    for each in module.TARGETS
}


def target_of(name: str) -> Target:
    """Return the target of that name. Raise HeliographError where there is none."""
    if name not in TARGETS and name != SELF_TEST.name:
        raise HeliographError(f"no target is named {name!r}; there are {', '.join(TARGETS)}")
    return TARGETS.get(name, SELF_TEST)
