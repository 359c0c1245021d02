"""The JSON schemas of parameters: those of algorithms, hard-sample rules and packages of code."""

from __future__ import annotations

from typing import Any

from heliograph.core.document_bounds import json_tree, problems_in

MAX_KEY, MAX_TEXT = 128, 1024
"""Characters of a parameter's name, and of a text as its value, as documents have them."""
LEAST_UPDATES = "x-leastUpdates"
"""Key of an algorithm's schema: a round needs ``times`` the value of ``parameter``, and ``plus``, updates."""
NEEDS = "x-needs"
"""Key of an algorithm's schema: a list of what participants have to measure, ``MEASURES``."""
MEASURES = frozenset(("received_loss", "local_steps"))
"""What a participant can measure for the algorithm: the loss of the received model before it trains, and the steps of
its optimizer. Each is a metric of its update."""
LOCAL_TERM = "x-localTerm"
"""Key of an algorithm's schema: name of the term that it adds to the local training."""
KEEPS_EDGE_STATE = "x-keepsEdgeState"
"""Key of an algorithm's schema: True where that term keeps arrays on each edge from round to round."""
_BOUNDS = frozenset(("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"))


def check_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema. Raise ValueError unless the parts by which parameters are checked have their types."""
    check_properties(json_tree(schema).get("properties", {}))
    least = schema.get(LEAST_UPDATES)
    if least is not None and not _is_least(least):
        raise ValueError(f"expected parameter, a text, times and plus, whole numbers from 0, under {LEAST_UPDATES}")
    needs, term = schema.get(NEEDS, []), schema.get(LOCAL_TERM, "")
    if not isinstance(needs, list) or not all(isinstance(each, str) and len(each) <= MAX_KEY for each in needs):
        raise ValueError(f"expected a list of texts of at most {MAX_KEY} characters under {NEEDS}")
    if not isinstance(term, str) or len(term) > MAX_KEY:
        raise ValueError(f"expected a text of at most {MAX_KEY} characters under {LOCAL_TERM}")
    return schema


def _is_least(given: Any) -> bool:
    if not isinstance(given, dict) or given.keys() != {"parameter", "times", "plus"}:
        return False
    numbers = (given["times"], given["plus"])
    right = all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= 1_000_000 for each in numbers)
    return right and isinstance(given["parameter"], str)


def check_properties(properties: Any) -> dict[str, Any]:
    """Return the schemas of parameters by their names; see ``check_schema``."""
    if not isinstance(properties, dict) or not all(isinstance(each, dict) for each in properties.values()):
        raise ValueError("expected properties as a mapping of mappings")
    for name, found in json_tree(properties).items():
        options = found.get("anyOf", [found])
        for option in options if isinstance(options, list) else [None]:
            if not isinstance(option, dict) or not isinstance(option.get("type", ""), str):
                raise ValueError(f"expected a type, or types under anyOf, for parameter {name[:64]}")
            for bound in _BOUNDS & option.keys():
                if not isinstance(option[bound], (int, float)):
                    raise ValueError(f"expected a number as {bound} of parameter {name[:64]}")
    return properties


def check_parameters(properties: Any) -> dict[str, Any]:
    """Return the schemas of a package's parameters; see ``check_properties``. Raise ValueError also for a name or a
    default that no job could give."""
    for name, found in check_properties(properties).items():
        if not 0 < len(name) <= MAX_KEY:
            raise ValueError(f"expected names of 1 to {MAX_KEY} characters, got one of {len(name)}")
        default = found.get("default")
        is_scalar = default is None or isinstance(default, (bool, int, float, str))
        if not is_scalar or len(str(default)[: MAX_TEXT + 1]) > MAX_TEXT or any(problems_in(default)):
            expected = f"expected a number, a text of at most {MAX_TEXT} characters, true or false as default"
            raise ValueError(f"{expected} of parameter {name[:64]}")
    return dict(properties)


def defaults_of(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the default of each parameter that has one."""
    return {key: each["default"] for key, each in properties.items() if each.get("default") is not None}
