"""Results to Label Studio and back; geometry in shares here, in percents there."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract import weights_file
from heliograph.bus.contract.payloads import Region, Result
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.core.errors import Refused
from heliograph.label_studio.convert import config_of, result_of, results_of
from heliograph.label_studio.png import png_of

CHOICE = LabelSchema(classes=["cat", 'a "dog" & <more>'])
REGIONS = LabelSchema(type="regions", classes=["cat"])


@pytest.mark.parametrize(
    ("schema", "result"),
    [
        (CHOICE, Result(type="choice", value="cat")),
        (LabelSchema(type="choices", classes=["a", "b"]), Result(type="choices", value=["b", "a"])),
        (LabelSchema(type="number"), Result(type="number", value=2.5)),
        (LabelSchema(type="text"), Result(type="text", value="two words")),
        (REGIONS, Result(type="regions", regions=[
            Region(shape="box", value="cat", points=[0.1, 0.2, 0.3, 0.4]),
            Region(shape="polygon", value="cat", points=[0.1, 0.1, 0.5, 0.1, 0.3, 0.9]),
            Region(shape="point", value="cat", points=[0.25, 0.75]),
        ])),
    ],
    ids=lambda each: each.type,
)  # fmt: skip
def test_a_result_comes_back_as_it_went(schema: LabelSchema, result: Result) -> None:
    back = result_of(results_of(result, schema), schema)
    assert (back.type, back.value) == (result.type, result.value)
    for one, other in zip(back.regions, result.regions, strict=True):
        assert (one.shape, one.value, one.points) == (other.shape, other.value, pytest.approx(other.points))


def test_a_turned_box_becomes_the_polygon_of_its_corners() -> None:
    """A quarter turn about the upper left corner, in an image twice as wide as high."""
    value = {"x": 50, "y": 50, "width": 20, "height": 10, "rotation": 90, "rectanglelabels": ["cat"]}
    given = {"type": "rectanglelabels", "original_width": 200, "original_height": 100, "value": value}
    (region,) = result_of([given], REGIONS).regions
    assert region.shape == "polygon"
    assert region.points == pytest.approx([0.5, 0.5, 0.5, 0.9, 0.45, 0.9, 0.45, 0.5])


@pytest.mark.parametrize(
    ("schema", "results"),
    [
        (CHOICE, [{"type": "choices", "value": {}}]),
        (CHOICE, [{"type": "choices", "value": "cat"}]),
        (LabelSchema(type="number"), [{"type": "number", "value": {"number": "many"}}]),
        (REGIONS, [{"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["cat"]}}]),
        (REGIONS, [{"type": "polygonlabels", "value": {"points": [[1, 2]], "polygonlabels": ["cat"]}}]),
        (REGIONS, [{"type": "rectanglelabels", "value": {"x": "nan", "y": 0, "width": 1, "height": 1,
                                                        "rectanglelabels": ["cat"]}}]),
    ],
)  # fmt: skip
def test_what_is_no_result_is_refused(schema: LabelSchema, results: Any) -> None:
    with pytest.raises(Refused, match="field result"):
        result_of(results, schema)


def test_results_of_other_tags_are_left_out() -> None:
    others = [{"type": "brushlabels", "value": {}}, "text", {"type": "keypointlabels", "value": {
        "x": 5, "y": 5, "keypointlabels": ["cat"]}}]  # fmt: skip
    assert [each.shape for each in result_of(others, REGIONS).regions] == ["point"]
    assert result_of(None, REGIONS).regions == []


def test_class_names_are_quoted_in_the_configuration() -> None:
    assert "<Choice value='a \"dog\" &amp; &lt;more&gt;'/>" in config_of(CHOICE, "text/plain")


def test_an_array_is_a_picture_and_another_is_refused() -> None:
    x = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    picture = png_of(weights_file.dumps({"x": x}))
    head, data = picture.index(b"IHDR") + 4, picture.index(b"IDAT") + 4
    assert struct.unpack(">II", picture[head : head + 8]) == (128, 128)
    lines = np.frombuffer(zlib.decompressobj().decompress(picture[data:]), np.uint8).reshape(128, 1 + 128 * 3)
    assert np.array_equal(lines[:, 1:].reshape(128, 128, 3)[::32, ::32], x)
    with pytest.raises(Refused, match="an image"):
        png_of(weights_file.dumps({"x": np.zeros((2, 3, 4, 5))}))
