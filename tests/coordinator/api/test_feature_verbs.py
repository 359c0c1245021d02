"""Verbs that a feature declares itself, with a body and an answer of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from heliograph.bus.contract.features import Verb
from heliograph.bus.contract.registry import BUILT_IN, Registry
from heliograph.bus.contract.request_bodies import Change, RequestBody
from heliograph.bus.contract.resources import Model
from heliograph.coordinator import feature
from heliograph.coordinator.api import requests
from heliograph.coordinator.feature import Feature
from heliograph.coordinator.quotas import Quotas
from heliograph.core.errors import Refused
from tests.coordinator.api.desk import MODEL, Desk, make_desk


class Grow(Change):
    by: int


class Size(RequestBody):
    bytes: int


class Trees(Feature[Model]):
    """Models whose description grows."""

    async def answer(self, verb: str, body: Any, resource: Model | None, caller: str) -> Any:
        if verb == "size":
            return {"trees": len(self.resources()), "caller": caller}
        assert resource is not None
        if verb == "measure":
            return Size(bytes=len(resource.spec.description))

        def grown(model: Model) -> Model:
            body.check(model)
            spec = model.spec.model_copy(update={"description": model.spec.description + "x" * body.by})
            return model.model_copy(update={"spec": spec})

        found = await self.context.step(Model, resource.name, grown)
        assert found is not None
        return found[1]


TREES = (
    Verb("grow", "Make it longer.", Grow),
    Verb("measure", "Return its size.", answer=Size),
    Verb("size", "Return how many there are.", RequestBody, named=False),
)


@pytest.fixture
async def trees(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk where models have verbs with a body and an answer of their own."""
    models = BUILT_IN.features["models"]
    registry = Registry([replace(models, verbs=(*models.verbs, *TREES), coordinator=f"{__name__}:Trees")])
    for module in (feature, requests):
        monkeypatch.setattr(module, "declared", lambda: registry)
    desk = await make_desk(Quotas())
    await desk.ask("models", "create", MODEL)
    return desk


async def test_a_feature_answers_a_verb_by_the_resource_by_a_model_or_by_a_mapping(trees: Any) -> None:
    grown = await trees.ask("models", "grow", {"name": "one", "by": 2})
    assert grown["spec"]["description"] == "firstxx" == trees.store.get(Model, "one").spec.description
    assert await trees.ask("models", "measure", {"name": "one"}) == {"bytes": 7}
    assert await trees.ask("models", "size", {}, "someone") == {"trees": 1, "caller": "someone"}


@pytest.mark.parametrize(
    ("verb", "body", "field", "got"),
    [
        ("grow", {"name": "one"}, "by", "nothing"),
        ("grow", {"name": "one", "by": 1, "length": 2}, "length", "2"),
        ("grow", {"by": 1}, "name", "nothing"),
        ("grow", {"name": "two", "by": 1}, "name", "two"),
        ("grow", {"name": "one", "by": 1, "resource_version": "newest"}, "resource_version", "newest"),
        ("grow", {"name": "one", "by": 1, "resource_version": "99"}, "resource_version", "99"),
        ("size", {"name": "one"}, "name", "one"),
        ("size", [], "", "[]"),
    ],
)
async def test_a_body_that_the_verb_does_not_declare_is_refused(
    trees: Any, verb: str, body: Any, field: str, got: str
) -> None:
    with pytest.raises(Refused) as refused:
        await trees.ask_raw("models", verb, body)
    assert (refused.value.field, refused.value.got) == (field, got)
    assert trees.store.get(Model, "one").spec.description == "first"
