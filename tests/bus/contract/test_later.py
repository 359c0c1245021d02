"""Parts of payloads whose classes are loaded later: they are what they would be if their class stood in the payload."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from heliograph.bus.contract.later import Later, parts_of
from heliograph.bus.contract.models import models_of
from heliograph.bus.contract.payloads import Ack, Payload
from heliograph.bus.contract.versions import FLOOR, added, left_out

HERE = __name__


class Leaf(Payload):
    size: int = 0
    newer: int = added("0.9", 1)


LaterLeaf = Annotated[Any, Later(HERE, "Leaf")]


class Tree(Payload):
    leaves: list[LaterLeaf] = Field(default_factory=list)
    named: dict[str, LaterLeaf] = Field(default_factory=dict)


def test_a_part_is_read_and_written_as_its_class() -> None:
    tree = Tree.model_validate({"leaves": [{"size": 3, "unknown": 1}], "named": {"a": Leaf(size=4)}})
    assert tree == Tree(leaves=[Leaf(size=3)], named={"a": Leaf(size=4)})
    assert tree.model_dump(mode="json") == {"leaves": [{"size": 3}], "named": {"a": {"size": 4}}}
    assert Tree.from_json(tree.model_dump_json()) == tree


def test_a_wrong_field_of_a_part_is_named_by_its_place() -> None:
    with pytest.raises(ValidationError) as found:
        Tree.model_validate({"leaves": [{}, {"size": "much"}], "named": {"a": 7}})
    assert [each["loc"] for each in found.value.errors()] == [("leaves", 1, "size"), ("named", "a")]


def test_a_part_belongs_to_the_models_of_its_payload_and_has_a_name_in_their_schema() -> None:
    assert list(models_of([Tree])) == ["Tree", "Leaf"]
    schema = Tree.model_json_schema()
    assert schema["properties"]["leaves"]["items"] == {"$ref": "#/$defs/Leaf"}
    assert schema["$defs"]["Leaf"]["properties"].keys() == {"size", "newer"}


def test_fields_of_a_part_have_versions() -> None:
    tree = Tree(leaves=[Leaf(size=1, newer=2)])
    assert tree.model_dump(exclude=left_out(Tree, FLOOR))["leaves"] == [{"size": 1}]


def test_an_annotation_without_such_a_part_has_its_own_parts() -> None:
    assert parts_of(dict[str, Ack]) == (str, Ack) and parts_of(int) == ()


def test_a_class_is_loaded_for_the_first_part_that_comes() -> None:
    code = (
        "import sys; from typing import Annotated, Any; from heliograph.bus.contract.later import Later; "
        "from heliograph.bus.contract.payloads.base import Payload\n"
        "class Holder(Payload):\n"
        "    parts: list[Annotated[Any, Later('heliograph.bus.contract.payloads', 'UploadOffer')]] = []\n"
        "Holder.model_validate({'parts': []}); before = 'heliograph.bus.contract.payloads.blobs' in sys.modules\n"
        "try: Holder.model_validate({'parts': [1]})\n"
        "except ValueError: print(before, 'heliograph.bus.contract.payloads.blobs' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
