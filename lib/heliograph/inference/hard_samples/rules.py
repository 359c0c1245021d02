"""The rules by name. A new rule is a file beside this one and a line here; its signature gives its schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from heliograph.bus.contract.resources import refusal_of
from heliograph.bus.contract.resources.base import Scalar
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.inference.hard_samples.always import always
from heliograph.inference.hard_samples.energy import energy, negative_energy
from heliograph.inference.hard_samples.entropy import entropy, spread
from heliograph.inference.hard_samples.ibt import ibt, sure_share
from heliograph.inference.hard_samples.margin import lead, margin
from heliograph.inference.hard_samples.never import never
from heliograph.inference.hard_samples.random import random
from heliograph.inference.hard_samples.router import chance, router
from heliograph.inference.hard_samples.scores import Scores
from heliograph.inference.hard_samples.threshold import best, threshold
from heliograph.inference.hard_samples.unknown import missing, unknown

Rule = Callable[[Scores], bool]
"""A function from a sample's scores to whether the sample is hard: the edge's answer is not good enough."""


@dataclass(frozen=True)
class Dial:
    """The parameter of a rule that tuning varies: a sample is hard if ``measure(scores) <hard> parameter``.

    Attributes:
        parameter: the parameter's name.
        measure: a function of the scores, and of the rule's other parameters as keyword arguments.
        hard: the comparison.
        logits: whether the rule reads logits, where the model gives them.
    """

    parameter: str
    measure: Callable[..., float]
    hard: Literal["<", "<=", ">"]
    logits: bool = False


RULES: dict[str, tuple[Callable[..., bool], Dial | None]] = {
    "always": (always, None),
    "energy": (energy, Dial("value", negative_energy, "<", logits=True)),
    "entropy": (entropy, Dial("limit", spread, ">")),
    "ibt": (ibt, Dial("threshold_img", sure_share, "<=")),
    "margin": (margin, Dial("value", lead, "<")),
    "never": (never, None),
    "random": (random, None),
    "router": (router, Dial("limit", chance, ">")),
    "threshold": (threshold, Dial("value", best, "<")),
    "unknown": (unknown, Dial("limit", missing, ">")),
}


def rules() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each rule's parameters by the rule's name, as agents report it."""
    return {name: _model(name).model_json_schema() for name in RULES}


def choose(name: str, parameters: Mapping[str, Scalar], *, draw: Callable[[], float] | None = None) -> Rule:
    """Return the rule of a name with its parameters bound.

    Args:
        name: the rule's name, one of ``rules()``.
        parameters: values by name; None or a missing one means the default.
        draw: source of randomness, numbers at least 0 and below 1; a simulation passes its world's generator.

    Raises:
        Refused: if the rule or a parameter is unknown, or a value is of another type or out of its range.
    """
    given = full_parameters(name, parameters)
    function, _ = RULES[name]
    if "draw" in inspect.signature(function).parameters:
        return partial(function, **given, draw=draw or World().rng.random)
    return partial(function, **given)


def full_parameters(name: str, parameters: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return all parameters of a rule: the given values, and the defaults of the others.

    Raises:
        Refused: as ``choose``.
    """
    _check_known(name)
    given = {key: value for key, value in parameters.items() if value is not None}
    known = _model(name).model_fields
    for key in given:
        if key not in known:
            expected = f"one of {', '.join(sorted(known))}" if known else f"nothing: {name} has no parameters"
            raise Refused("unknown-parameter", field=f"parameters.{key}", expected=expected, got=key)
    try:
        return _model(name).model_validate(given).model_dump()
    except ValidationError as error:
        found = refusal_of(error)
        raise Refused("invalid", field=f"parameters.{found.field}", expected=found.expected, got=found.got,
                      hint=found.hint) from None  # fmt: skip


def dial(name: str) -> Dial:
    """Return the parameter of a rule that tuning varies.

    Raises:
        Refused: if the rule is unknown, or has no such parameter.
    """
    _check_known(name)
    found = RULES[name][1]
    if found is None:
        tunable = ", ".join(each for each, (_, parameter) in RULES.items() if parameter is not None)
        raise Refused("not-tunable", field="rule", expected=f"a rule that reads the scores: {tunable}", got=name)
    return found


def reads_scores(name: str) -> bool:
    """Return whether a rule decides by the scores of classes or boxes."""
    return RULES[name][1] is not None


def reads_logits(name: str) -> bool:
    """Return whether a rule decides by the logits of classes."""
    found = RULES[name][1]
    return found is not None and found.logits


def _check_known(name: str) -> None:
    if name not in RULES:
        raise Refused("unknown-rule", field="rule", expected=f"one of {', '.join(RULES)}", got=name)


@cache
def _model(name: str) -> type[BaseModel]:
    """Return a rule's parameters as a model: the keyword arguments with a default (``draw`` has none)."""
    function, _ = RULES[name]
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        key: (hints[key], each.default)
        for key, each in inspect.signature(function).parameters.items()
        if each.default is not inspect.Parameter.empty
    }
    strict = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    summary = inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0]
    return create_model(name, __config__=strict, __doc__=" ".join(summary.split()), **fields)
