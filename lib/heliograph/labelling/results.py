"""Results of labellers: whether they fit a queue's schema, and whether two of them say the same."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

from heliograph.bus.contract.payloads.labels import Region, Result
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.core.errors import Refused

_NAMED = 12
"""Classes that a refusal names."""
_POINT_DISTANCE = 0.05
"""Share of the image up to which two points count as the same."""


def check_result(result: Result, schema: LabelSchema, field: str = "result") -> None:
    """Raise Refused, naming the field, where a result is none of the schema's."""
    if result.type != schema.type:
        raise Refused("invalid", field=f"{field}.type", expected=f"{schema.type}, the type of the queue's labels",
                      got=result.type)  # fmt: skip
    if result.regions and schema.type != "regions":
        raise Refused("invalid", field=f"{field}.regions", expected=f"none in a {schema.type}",
                      got=f"{len(result.regions)} regions")  # fmt: skip
    match schema.type:
        case "choice":
            _check_class(result.value, schema, f"{field}.value")
        case "choices":
            if not isinstance(result.value, list) or len(set(result.value)) < len(result.value):
                raise Refused("invalid", field=f"{field}.value", expected="a list of different classes",
                              got=result.value)  # fmt: skip
            for each in result.value:
                _check_class(each, schema, f"{field}.value")
        case "number":
            _check_number(result.value, schema, f"{field}.value")
        case "text":
            if not isinstance(result.value, str) or not result.value.strip():
                raise Refused("invalid", field=f"{field}.value", expected="a text", got=result.value)
        case "regions":
            if result.value is not None:
                raise Refused("invalid", field=f"{field}.value", expected="nothing beside regions", got=result.value)
            for number, region in enumerate(result.regions):
                _check_class(region.value, schema, f"{field}.regions[{number}].value")


def comparable(result: Result) -> Hashable:
    """Return what agreement compares of a result: the class, the sorted classes, the number or the text; of regions
    the sorted classes that occur."""
    if result.type == "regions":
        return tuple(sorted(region.value for region in result.regions))
    if isinstance(result.value, list):
        return tuple(sorted(result.value))
    return result.value.strip() if isinstance(result.value, str) else result.value


def same_result(one: Result, other: Result, schema: LabelSchema) -> bool:
    """Return whether two results say the same: numbers within the tolerance, regions that overlap enough."""
    if schema.type == "number":
        return abs(_number(one) - _number(other)) <= schema.tolerance
    if schema.type == "regions":
        return _same_regions(one.regions, other.regions, schema.least_overlap)
    return comparable(one) == comparable(other)


def choice_of(scores: Sequence[float], schema: LabelSchema) -> Result | None:
    """Return the result of a model's scores, one for each class; logits become probabilities. None where they do not
    fit the schema."""
    if schema.type != "choice" or len(scores) != len(schema.classes) or not all(map(math.isfinite, scores)):
        return None
    if min(scores) < 0 or abs(sum(scores) - 1) > 0.01:
        most = max(scores)
        raised = [math.exp(each - most) for each in scores]
        scores = [each / sum(raised) for each in raised]
    best = max(range(len(scores)), key=scores.__getitem__)
    return Result(type="choice", value=schema.classes[best], score=min(1.0, max(0.0, scores[best])))


def _check_class(value: object, schema: LabelSchema, field: str) -> None:
    if not isinstance(value, str) or value not in schema.classes:
        named = ", ".join(schema.classes[:_NAMED])
        more = f" and {len(schema.classes) - _NAMED} more" if len(schema.classes) > _NAMED else ""
        raise Refused("unknown-class", field=field, expected=f"a class of the queue: {named}{more}", got=value)


def _check_number(value: object, schema: LabelSchema, field: str) -> None:
    low, high = schema.low, schema.high
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or (low is not None and value < low) or (high is not None and value > high):  # type: ignore[operator]
        bounds = [f"from {low:g}"] * (low is not None) + [f"to {high:g}"] * (high is not None)
        raise Refused("invalid", field=field, expected=" ".join(["a number", *bounds]), got=value)


def _number(result: Result) -> float:
    return float(result.value) if isinstance(result.value, (int, float)) else math.nan


def _same_regions(ones: Sequence[Region], others: Sequence[Region], least: float) -> bool:
    """Return whether each region has a partner of its class and shape among the others, and nothing is left over."""
    left = list(others)
    for one in ones:
        fitting = [(overlap, other) for other in left if (overlap := _overlap(one, other)) >= least]
        if not fitting:
            return False
        left.remove(max(fitting, key=lambda each: each[0])[1])
    return not left


def _overlap(one: Region, other: Region) -> float:
    """Return the intersection over the union of two regions' bounding boxes; of points 1 where they are near."""
    if (one.shape, one.value) != (other.shape, other.value):
        return 0.0
    if one.shape == "point":
        return float(math.dist(one.points, other.points) <= _POINT_DISTANCE)
    (x, y, right, bottom), (x2, y2, right2, bottom2) = _bounds(one), _bounds(other)
    width, height = min(right, right2) - max(x, x2), min(bottom, bottom2) - max(y, y2)
    common = max(0.0, width) * max(0.0, height)
    union = (right - x) * (bottom - y) + (right2 - x2) * (bottom2 - y2) - common
    return common / union if union > 0 else float(one.points == other.points)


def _bounds(region: Region) -> tuple[float, float, float, float]:
    points = region.points
    if region.shape == "box":
        return points[0], points[1], points[0] + points[2], points[1] + points[3]
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])
