"""Sedna's ``hardExampleMining`` as our hard-sample rules.

The rules are those of https://github.com/kubeedge/sedna/blob/main/lib/sedna/algorithms/hard_example_mining/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from heliograph.sedna.fields import Fields
from heliograph.sedna.values import typed

_Made = tuple[str, Callable[[float], float]]
_IBT: Mapping[str, _Made] = {name: (name, float) for name in ("threshold_img", "threshold_box")}
_RULES: Mapping[str, tuple[str, Mapping[str, _Made], Mapping[str, float]]] = {
    "IBT": ("ibt", _IBT, {"threshold_img": 0.5, "threshold_box": 0.5}),
    # a confidence of 1 less the entropy, below a threshold
    "CrossEntropy": ("entropy", {"threshold_cross_entropy": ("limit", lambda t: round(1 - t, 12))}, {"limit": 0.5}),
    "Random": ("random", {"random_ratio": ("share", float)}, {"share": 0.3}),
}
"""By Sedna's name: our rule, its parameters by Sedna's, and Sedna's defaults in our terms."""


def hard_sample_rule(mining: Fields) -> dict[str, Any] | None:
    """Return the rule of a service; None where the document has none, or one of its own."""
    name = mining.text("name")
    if not name:
        mining.drop_rest()
        return None
    if name not in _RULES:
        known = ", ".join(_RULES)
        mining.drop(f"{name} is none of {known}; write it as a rule, or choose one of 'hardSampleRule'", "name")
        mining.drop_rest()
        return None
    rule, known_parameters, found = _RULES[name][0], _RULES[name][1], dict(_RULES[name][2])
    for parameter in mining.parts("parameters"):
        key, value = parameter.text("key"), typed(parameter.take("value"))
        if key in known_parameters and isinstance(value, int | float) and 0 <= value <= 1:
            ours, made = known_parameters[key]
            found[ours] = made(value)
        else:
            expected = f"{' or '.join(known_parameters)}, from 0 to 1"
            parameter.drop(f"the rule {rule} takes {expected}", "key")
        parameter.drop_rest()
    mining.drop_rest()
    return {"name": rule, "parameters": [{"key": key, "value": value} for key, value in found.items()]}
