"""Names and fields that are imported when they are first used."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from heliograph.bus.contract import payloads, resources
from heliograph.core.lazy import Declaration, References, lazy_names

colors: Any = References("colorsys")


@dataclass(frozen=True)
class Paint(Declaration):
    name: str
    mix: Any
    thin: Any = field(default_factory=lambda: None)


def test_a_field_that_names_a_module_imports_it_when_it_is_read() -> None:
    sys.modules.pop("colorsys", None)
    paint = Paint("red", colors.rgb_to_hsv)
    assert paint.name == "red" and paint.thin is None and "colorsys" not in sys.modules
    assert paint.mix(0, 0, 0) == (0, 0, 0) and "colorsys" in sys.modules
    assert paint == Paint("red", paint.mix) == replace(paint)


def test_a_name_that_nothing_has_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Paint has no attribute 'gloss'"):
        _ = Paint("red", 1).gloss
    with pytest.raises(AttributeError, match="no attribute 'rgb_to_cmyk'"):
        _ = Paint("red", colors.rgb_to_cmyk).mix
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        lazy_names("heliograph.core", {"errors": "Refused"})("Nothing")


@pytest.mark.parametrize("package", [payloads, resources])
def test_every_public_name_of_a_lazy_package_is_there(package: Any) -> None:
    assert all(getattr(package, name) is not None for name in package.__all__)
