"""Adapters that packages offer by entry points, the one of docs/frameworks.md among them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.contract.payloads import Offer
from heliograph.bus.contract.weights_file import dumps
from heliograph.core.errors import Refused
from heliograph.frameworks import adapter_for, buffers_of
from heliograph.frameworks.loading import load
from tests.lib.adapter_checks import assert_refuses, assert_same, assert_sets_in_place_and_copies
from tests.outside_package import install

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"
Install = Callable[..., Path]


@pytest.fixture
def installing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return ``installing(name="module:Class")``, which installs a copy of ``tests/data/frameworks``."""

    def make(**entries: str) -> Path:
        place = tmp_path / "installed"
        install(place, "frameworks", "heliograph.frameworks", [f"{name} = {where}" for name, where in entries.items()])
        (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
        (place / "heliograph_mindspore.py").write_text(code)
        monkeypatch.syspath_prepend(str(place))
        for name in ("toy_frameworks", "heliograph_mindspore", "mindspore", "mindspore.nn"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        return place

    return make


def boxed(**arrays: Any) -> Any:
    return import_module("toy_frameworks").Boxed(arrays)


def test_a_model_is_the_installed_adapters_that_accepts_it(installing: Install) -> None:
    installing(toys="toy_frameworks:BoxedModel")
    model = boxed(w=np.zeros(2))
    adapter = adapter_for(model)
    adapter.set({"w": np.ones(2)})
    assert model.arrays["w"].tolist() == [1, 1]
    assert buffers_of(adapter) == frozenset()
    with pytest.raises(Refused, match=r"got builtins\.list"):
        adapter_for([1])


def test_a_dict_of_an_unknown_frameworks_arrays_is_offered_too(installing: Install) -> None:
    installing(toys="toy_frameworks:Greedy")
    assert type(adapter_for({"w": object()})).__name__ == "Greedy"


def test_an_installed_adapter_takes_nothing_that_a_built_in_one_takes(installing: Install) -> None:
    installing(everything="toy_frameworks:Greedy")
    assert type(adapter_for({"w": np.zeros(1)})).__name__ == "ArraysModel"


def test_a_package_cannot_replace_a_built_in_framework(installing: Install) -> None:
    installing(numpy="toy_frameworks:Greedy", torch="toy_frameworks:Greedy")
    with pytest.raises(Refused, match="expected a torch"):
        adapter_for(boxed())


def test_an_unusable_adapter_is_named_and_concerns_itself_alone(installing: Install) -> None:
    bad = {
        "failing": ("toy_frameworks:Failing", "accepts(model) raised KeyError: 'device'"),
        "gone": ("toy_frameworks.nowhere:Nothing", "ModuleNotFoundError"),
        "half": ("toy_frameworks:Half", "without set()"),
        "odd": ("toy_frameworks:NOT_A_CLASS", "got 7"),
    }
    installing(toys="toy_frameworks:BoxedModel", **{name: where for name, (where, _) in bad.items()})
    assert adapter_for(boxed(w=np.zeros(1))).get().keys() == {"w"}
    assert adapter_for({"w": np.zeros(1)})
    with pytest.raises(Refused, match=r"heliograph\.frameworks: failing = toy_frameworks:Failing"):
        adapter_for([1])


@pytest.mark.parametrize(("where", "reason"), [
    ("toy_frameworks:Failing", r"accepts\(model\) raised KeyError: 'device'"),
    ("toy_frameworks.nowhere:Nothing", "ModuleNotFoundError"),
    ("toy_frameworks:Half", r"without set\(\)"),
    ("toy_frameworks:NOT_A_CLASS", "got 7"),
    ("toy_frameworks:Unmade", r"Unmade\(model\) raised ValueError: no such layer"),
])  # fmt: skip
def test_an_unusable_adapter_says_why(where: str, reason: str, installing: Install) -> None:
    installing(bad=where)
    with pytest.raises(Refused, match=rf"expected a class with accepts\(model\).*{reason}.*Mend or uninstall") as found:
        adapter_for(boxed())
    assert found.value.code == "unusable-framework"


def test_agents_report_installed_frameworks_without_importing_them(installing: Install) -> None:
    place = installing(toys="toy_frameworks:BoxedModel", gone="nowhere:Nothing", numpy="toy_frameworks:Greedy")
    path = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])
    code = ("import json, sys; from heliograph.workers.offers import offers\n"
            "found = offers(); print(json.dumps([found, 'toy_frameworks' in sys.modules]))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True,
                          env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    printed, imported = json.loads(done.stdout)
    offer = Offer.model_validate(printed)
    assert (offer.frameworks["toys"], offer.frameworks["gone"]) == ("1.0", "1.0")
    assert offer.frameworks["numpy"] == np.__version__
    assert not imported


def test_the_pages_adapter_for_mindspore(installing: Install, tmp_path: Path) -> None:
    installing(mindspore="heliograph_mindspore:MindSporeModel")
    mindspore = import_module("mindspore")
    parameters = [
        mindspore.Parameter(np.arange(6).reshape(2, 3), "dense.weight"),
        mindspore.Parameter([1.5, 2.5], "low.bias", mindspore.bfloat16),
        mindspore.Parameter([0, 0], "norm.moving_mean"),
        mindspore.Parameter(3, "steps", mindspore.int32),
    ]
    cell = type("Net", (mindspore.nn.Cell,), {})(*parameters)
    adapter = adapter_for(cell)
    wanted = assert_sets_in_place_and_copies(adapter)
    assert [each.dtype for each in parameters] == ["Float32", "BFloat16", "Float32", "Int32"]
    assert cell.parameters_dict()["low.bias"] is parameters[1]
    assert_refuses(adapter, "dense.weight")
    assert buffers_of(adapter) == {"norm.moving_mean"}
    (tmp_path / "model").write_bytes(dumps({name: array + 1 for name, array in wanted.items()}))
    load(cell, tmp_path / "model")
    assert_same(adapter.get(), {name: (array + 1).astype(array.dtype) for name, array in wanted.items()})
