"""The rules by name. A new one is a file beside this and a line here; its schema comes from its signature."""

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

Rule = Callable[[Scores], bool]
"""Whether a sample is hard: its scores say that the edge's answer is not good enough."""


@dataclass(frozen=True)
class Dial:
    """What tuning turns: a sample is hard where ``measure(scores) <hard> parameter``.

    Attributes:
        parameter: its name.
        measure: a function of the scores, and of the rule's other parameters as keyword arguments.
    """

    parameter: str
    measure: Callable[..., float]
    hard: Literal["<", "<=", ">"]


RULES: dict[str, tuple[Callable[..., bool], Dial | None]] = {
    "always": (always, None),
    "energy": (energy, Dial("value", negative_energy, "<")),
    "entropy": (entropy, Dial("limit", spread, ">")),
    "ibt": (ibt, Dial("threshold_img", sure_share, "<=")),
    "margin": (margin, Dial("value", lead, "<")),
    "never": (never, None),
    "random": (random, None),
    "router": (router, Dial("limit", chance, ">")),
    "threshold": (threshold, Dial("value", best, "<")),
}


def rules() -> dict[str, dict[str, Any]]:
    """Rule name to the JSON schema of its parameters, as an agent reports it."""
    return {name: _model(name).model_json_schema() for name in RULES}


def choose(name: str, parameters: Mapping[str, Scalar], *, draw: Callable[[], float] | None = None) -> Rule:
    """The rule of that name with its parameters; those that are None or missing take their default.

    Args:
        draw: where a rule gets its randomness, numbers from 0 up to but not 1; a simulation gives its own world's.

    Raises Refused where there is no such rule or parameter, or a value is of another type or out of its range.
    """
    given = checked(name, parameters)
    function, _ = RULES[name]
    if "draw" in inspect.signature(function).parameters:
        return partial(function, **given, draw=draw or World().rng.random)
    return partial(function, **given)


def checked(name: str, parameters: Mapping[str, Scalar]) -> dict[str, Any]:
    """All parameters of a rule, by name: the given values and the defaults of the others. Raises as ``choose``."""
    _known(name)
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
    """What tuning turns of a rule. Raises Refused where there is no such rule, or nothing to turn."""
    _known(name)
    found = RULES[name][1]
    if found is None:
        able = ", ".join(each for each, (_, turned) in RULES.items() if turned is not None)
        raise Refused("not-tunable", field="rule", expected=f"one that looks at the scores: {able}", got=name)
    return found


def _known(name: str) -> None:
    if name not in RULES:
        raise Refused("unknown-rule", field="rule", expected=f"one of {', '.join(RULES)}", got=name)


@cache
def _model(name: str) -> type[BaseModel]:
    """A rule's keyword arguments as a model: what has a default is a setting, what has none is handed in."""
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
