"""Names and fields that are imported when they are first used."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
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


def test_a_module_of_a_package_is_imported_when_it_is_used(tmp_path: Path) -> None:
    """Also where the package imports it itself, and without it for a module below it."""
    (tmp_path / "eager" / "unused").mkdir(parents=True)
    (tmp_path / "eager" / "__init__.py").write_text("import eager.unused\nname = 'package'\n")
    (tmp_path / "eager" / "unused" / "__init__.py").write_text("from eager.unused.large import size\n")
    (tmp_path / "eager" / "unused" / "large.py").write_text("size = 1\n")
    (tmp_path / "eager" / "unused" / "small.py").write_text("size = 2\n")
    code = (
        "import sys; from heliograph.core.lazy import import_when_used\n"
        "import_when_used('eager.unused'); import_when_used('no_such_package.module')\n"
        "import eager, eager.unused.small\n"
        "assert eager.name == 'package' and eager.unused.small.size == 2\n"
        "assert 'eager.unused.large' not in sys.modules\n"
        "assert eager.unused.size == 1 and 'eager.unused.large' in sys.modules\n"
        "from eager.unused import size, small\n"
        "assert (size, small.size) == (1, 2)\n"
    )
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
