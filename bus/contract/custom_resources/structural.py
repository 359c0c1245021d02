"""Structural schemas: the JSON schemas of the models in the subset that Kubernetes takes for custom resources.

The subset is that of https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/:
every value has one type, nothing refers to anything, and bounds are where OpenAPI 3.0 has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract.custom_resources.rules import RULES
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.contract.resources.triggers import MAX_DEPTH
from heliograph.bus.contract.schemas import SCHEMAS, models, schemas

Schema = dict[str, Any]
KEPT = ("description", "format", "minimum", "maximum", "minLength", "maxLength", "pattern", "minItems", "maxItems",
        "maxProperties")  # fmt: skip
"""Words that mean the same here and there."""
LIST_KEYS = {"Parameter": "key", "Condition": "type", "TrainingWorker": "name",
             "EnvVariable": "name", "PodVolume": "mountPath"}  # fmt: skip
"""The field by which the entries of a list differ, by the entries' model."""
SETS = {
    ("EdgeSelection", "names"), ("JointInferenceServiceSpec", "drift"), ("LabelSchema", "classes"),
    ("PairPlan", "classes"), ("LabelQueueSpec", "reviewers"),
}  # fmt: skip
"""Lists of words of which each stands there once, by the model that declares them."""
FILLED_IN = {("PairService", "edgeWorker"): "model", ("PairService", "cloudWorker"): "model"}
"""A required field of a field's value that the coordinator fills in where it is left out."""
_ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True}


def structural(model: type[BaseModel], *, observed: bool = False) -> Schema:
    """Return the structural schema of a model.

    Args:
        observed: whether it is a status: it has no defaults and no rules, since the coordinator alone writes it, and no
            inline bytes, for which the store of Kubernetes is too small.
    """
    return _Translation(observed).of_model(model.__name__, ())


class _Translation:
    """The schemas of one spec or status. Those that lie within themselves are written out to ``MAX_DEPTH``."""

    def __init__(self, observed: bool) -> None:
        self._observed = observed
        self._models = models(BUILT_IN)
        self._schemas = schemas(BUILT_IN)

    def of_model(self, name: str, above: tuple[str, ...]) -> Schema:
        given, model = self._schemas[name], self._models[name]
        within = (*above, name)
        properties: dict[str, Schema] = {}
        # a model within itself is explained once: kubectl stores the whole definition in an annotation of 256 kB
        explained = name not in above
        for field, part in given.get("properties", {}).items():
            if self._observed and field == "inline":
                continue
            if any(within.count(other) >= MAX_DEPTH for other in _references(part)):
                continue
            properties[field] = self._of_field(model, field, part, within)
            if not explained:
                properties[field].pop("description", None)
        found: Schema = {"type": "object"}
        if explained and (text := given.get("description")):
            found["description"] = text
        if required := [field for field in given.get("required", ()) if field in properties]:
            found["required"] = required
        found["properties"] = properties
        bases = [base.__name__ for base in model.__mro__]
        rules = [rule for base in bases for rule in RULES.get(base, ())]
        if rules and not self._observed:
            found["x-kubernetes-validations"] = [
                {"rule": rule.rule, "message": rule.message} for rule in rules if set(rule.fields) <= properties.keys()
            ]
        return found

    def _of_field(self, model: type[BaseModel], field: str, given: Schema, above: tuple[str, ...]) -> Schema:
        found = self._of(given, above)
        bases = {base.__name__ for base in model.__mro__}
        if any((base, field) in SETS for base in bases) and not self._observed:
            found["x-kubernetes-list-type"] = "set"
        if (filled := FILLED_IN.get((model.__name__, field))) and "required" in found:
            found["required"] = [name for name in found["required"] if name != filled]
            if not found["required"]:
                del found["required"]
        return found

    def _of(self, given: Schema, above: tuple[str, ...]) -> Schema:
        """Return the schema of a value. A description beside a reference is the field's, in place of the model's."""
        branches = [each for each in given.get("anyOf", ()) if each.get("type") != "null"]
        if len(branches) > 1:
            found = dict(_ANYTHING)
        elif branches:
            found = self._of(branches[0], above)
        elif "$ref" in given:
            found = self.of_model(given["$ref"].removeprefix(SCHEMAS), above)
        else:
            found = self._of_plain(given, above)
        if text := given.get("description"):
            found["description"] = text
        if not self._observed and given.get("default") is not None:
            found["default"] = given["default"]
        return found

    def _of_plain(self, given: Schema, above: tuple[str, ...]) -> Schema:
        words = given["enum"] if "enum" in given else [given["const"]] if "const" in given else None
        found: Schema = {"type": given["type"]}
        found |= {key: given[key] for key in KEPT if key in given}
        for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if exclusive in given:
                found |= {bound: given[exclusive], exclusive: True}
        if words is not None:
            # a rule that compares the word costs as much as its longest value
            found |= {"enum": list(words), "maxLength": max(map(len, words))}
        if given["type"] == "array":
            found |= self._of_list(given, above)
        if given["type"] == "object":
            found |= self._of_mapping(given, above)
        return found

    def _of_list(self, given: Schema, above: tuple[str, ...]) -> Schema:
        found: Schema = {"items": self._of(given["items"], above)}
        for name in _references(given["items"]):
            if name in LIST_KEYS:
                found |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [LIST_KEYS[name]]}
        return found

    def _of_mapping(self, given: Schema, above: tuple[str, ...]) -> Schema:
        """Return what the values are. Kubernetes has no word for the names: the coordinator checks them."""
        values = given.get("additionalProperties")
        if isinstance(values, Mapping):
            return {"additionalProperties": self._of(dict(values), above)}
        patterns = list(given.get("patternProperties", {}).values())
        return {"additionalProperties": self._of(patterns[0], above)} if len(patterns) == 1 else dict(_ANYTHING)


def _references(given: Schema) -> set[str]:
    """Return the models that a field's value consists of, itself or in a list."""
    parts = [given, *given.get("anyOf", ()), *([given["items"]] if "items" in given else ())]
    return {part["$ref"].removeprefix(SCHEMAS) for part in parts if "$ref" in part}
