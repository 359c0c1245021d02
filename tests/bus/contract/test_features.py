"""Feature declarations: a sound one extends the registry, any other is refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
from pydantic import Field

from heliograph.bus.contract import topics
from heliograph.bus.contract.features import CATALOG, FeatureDeclaration, Verb
from heliograph.bus.contract.payloads import Payload
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.contract.request_bodies import Change, Named, RequestBody
from heliograph.bus.contract.resources import Model, Resource
from heliograph.bus.contract.resources.base import Document
from heliograph.bus.contract.topics import Stream, Topic
from heliograph.core.errors import Refused


class Flash(Payload):
    seconds: float


class LampSpec(Document):
    flashes: int = 1


class LampStatus(Document):
    phase: str = "Pending"


class Lamp(Resource):
    plural: ClassVar[str] = "lamps"
    kind: Literal["Lamp"] = "Lamp"
    spec: LampSpec = Field(default_factory=LampSpec)
    status: LampStatus = Field(default_factory=LampStatus)


class Lamppost(Lamp):
    plural: ClassVar[str] = "jobs"


class Lampion(Lamp):
    plural: ClassVar[str] = "lampion"


class OnlyKept(Resource):
    plural: ClassVar[str] = "kepts"


FLASH = Topic("event/flash/{lamp}", Flash, "event", ("operator",), ("coordinator",), "A flash.",
              stream=Stream("FLASHES"))  # fmt: skip
LAMPS = FeatureDeclaration("lamps", Lamp, CATALOG, (FLASH,))


class Dim(Change):
    """How much darker the lamp is to be."""

    percent: int


class Brightness(Payload):
    """How bright a lamp is."""

    lumen: float


class Beside(RequestBody):
    lamp: str


DIM = Verb("dim", "Make the lamp darker.", Dim, Brightness)


def _with_payload(name: str) -> Topic[Any]:
    return replace(FLASH, payload=type(name, (Payload,), {}))


def _topic(**changes: Any) -> FeatureDeclaration:
    return replace(LAMPS, topics=(replace(FLASH, **changes),))


def test_a_sound_declaration_extends_the_registry_and_leaves_the_built_in_one_alone() -> None:
    extended = BUILT_IN.extended(LAMPS)
    assert extended.lookup("event/flash/north") == (FLASH, {"lamp": "north"})
    assert BUILT_IN.lookup("event/flash/north") == (None, {})
    assert (extended.kinds["Lamp"], extended.verbs["lamps"]) == (Lamp, CATALOG)
    assert extended.streams()[-1].name == "FLASHES"
    assert extended.by_pattern(FLASH.pattern) is FLASH
    assert [*extended.find_by_filter("event/flash/+")] == [FLASH]
    assert [*extended.verbs][:-1] == [*BUILT_IN.verbs]


def test_a_verb_of_its_own_is_a_request_with_the_models_of_its_body_and_answer() -> None:
    extended = BUILT_IN.extended(replace(LAMPS, verbs=(*CATALOG, DIM, Verb("light", "Light it."))))
    assert extended.verbs["lamps"] == (*CATALOG, "dim", "light")
    assert extended.features["lamps"].own_verbs["dim"] is DIM
    assert {Dim, Named} <= {*extended.bodies}
    assert Brightness in extended.answers


@pytest.mark.parametrize(
    ("declaration", "field", "got"),
    [
        (replace(LAMPS, kind=Model), "kind", "Model"),
        (replace(LAMPS, kind=Lamppost), "plural", "jobs"),
        (replace(LAMPS, kind=Lampion), "plural", "lampion"),
        (replace(LAMPS, kind=OnlyKept), "kind", "OnlyKept"),
        (replace(LAMPS, kind=Flash), "kind", "Flash"),
        (replace(LAMPS, collection="lumens"), "collection", "lumens"),
        (replace(LAMPS, verbs=("Create",)), "verbs", "Create"),
        (replace(LAMPS, verbs=(replace(DIM, name="Dim"),)), "verbs", "Dim"),
        (replace(LAMPS, verbs=(replace(DIM, name="get"),)), "verbs", "get"),
        (replace(LAMPS, verbs=("dim", DIM)), "verbs", "dim, dim"),
        (replace(LAMPS, verbs=(replace(DIM, body=int),)), "verbs", "int"),  # type: ignore[arg-type]
        (replace(LAMPS, verbs=(replace(DIM, named=False),)), "verbs", "Dim"),
        (replace(LAMPS, verbs=(replace(DIM, body=Beside),)), "verbs", "Beside"),
        (replace(LAMPS, verbs=(replace(DIM, answer=type("Report", (Payload,), {})),)), "Report", ".Report and "),
        (_topic(pattern="edge/{edge}/down/task"), "topics", "edge/{edge}/down/task, beside edge/{edge}/down/task"),
        (_topic(pattern="event/{what}/{lamp}"), "topics", "event/{what}/{lamp}, beside event/assignment/{worker}"),
        (_topic(pattern="edge/{edge}/{what}/report"), "topics", "edge/{edge}/{what}/report"),
        (_topic(pattern="edge/{lamp}/up/flash"), "topics", "edge/{lamp}/up/flash"),
        (_topic(pattern="edge/{edge}/up/{what}"), "topics", "beside edge/{edge}/up/report"),
        (_topic(pattern="flash/{lamp}"), "topics", "flash/{lamp}"),
        (_topic(stream=Stream("TASKS")), "topics", "TASKS"),
        (replace(LAMPS, topics=(FLASH, replace(FLASH, stream=None))), "topics", "beside event/flash/{lamp}"),
        (replace(LAMPS, topics=(_with_payload("Report"),)), "Report", ".Report and "),
    ],
)
def test_a_colliding_or_malformed_declaration_is_refused(declaration: Any, field: str, got: str) -> None:
    with pytest.raises(Refused) as refused:
        BUILT_IN.extended(declaration)
    assert refused.value.field == field
    assert got in refused.value.got


@pytest.mark.parametrize("reference", ["nowhere:Lamps", "json:Lamps"])
def test_a_part_that_cannot_be_imported_is_refused_naming_it(reference: str) -> None:
    with pytest.raises(Refused) as refused:
        replace(LAMPS, coordinator=reference).load("coordinator")
    assert refused.value.field == "coordinator of feature lamps"
    assert refused.value.got.startswith(reference)


def test_every_built_in_part_can_be_imported() -> None:
    for declaration in BUILT_IN.features.values():
        assert declaration.collection == declaration.kind.plural
        for part in ("coordinator", "command_line"):
            assert (declaration.load(part) is None) == (not getattr(declaration, part))


def test_a_topic_belongs_to_the_core_or_to_one_feature() -> None:
    every = [value for value in vars(topics).values() if isinstance(value, Topic)]
    assert {topic.name for topic in every} == {topic.name for topic in BUILT_IN.topics}
