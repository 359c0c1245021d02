"""Which version of a model is deployed where: aliases, edges that are bound to one, and models of earlier versions."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import Model, ModelVersion, WeightsRef, aliased, dump, latest, resolve
from heliograph.bus.contract.resources.model import resolve_all
from heliograph.core.errors import Refused


def _weights(number: int) -> dict[str, Any]:
    return {"digest": f"{number:064x}", "size": 8, "bucket": "models"}


def _model(newest: int = 3, *, declared: bool = False, **status: Any) -> Model:
    versions = [{"version": number, "weights": _weights(number)} for number in range(1, newest + 1)]
    spec = {"weights": _weights(0)} if declared else {}
    return Model.model_validate({"metadata": {"name": "m"}, "spec": spec, "status": {"versions": versions} | status})


def _deployed(model: Model, *edges: str) -> list[int | None]:
    found = resolve_all(model, edges)
    assert list(found) == list(edges)
    return [version.version if version is not None else None for version in found.values()]


@pytest.mark.parametrize(("model", "expected"), [
    (_model(), [3, 3, 3]),
    (_model(aliases={"challenger": 1}), [3, 3, 3]),
    (_model(aliases={"champion": 2}), [2, 2, 2]),
    (_model(aliases={"champion": 2, "challenger": 3}, bindings={"challenger": ["e-2", "e-9"]}), [2, 3, 2]),
    (_model(aliases={"challenger": 1}, bindings={"challenger": ["e-2"]}), [3, 1, 3]),
    (_model(bindings={"challenger": ["e-2"]}), [3, 3, 3]),
    (_model(aliases={"champion": 0, "challenger": 2}, bindings={"challenger": ["e-1"]}, declared=True), [2, 0, 0]),
    (_model(0, declared=True), [0, 0, 0]),
    (_model(0), [None, None, None]),
])  # fmt: skip
def test_the_champion_is_deployed_but_on_bound_edges(model: Model, expected: list[int | None]) -> None:
    assert _deployed(model, "e-1", "e-2", "e-3") == expected
    assert resolve(model, "e-1") == resolve_all(model, ["e-1"])["e-1"]


def test_jobs_start_from_the_champion_and_people_download_it() -> None:
    model = _model(aliases={"champion": 1}, bindings={"champion": ["e-1"]})
    found, newest = resolve(model), latest(model)
    assert found is not None and newest is not None and (found.version, newest.version) == (1, 1)
    assert aliased(model, "challenger") is None


def test_an_alias_of_a_version_that_is_gone_deploys_what_is_there() -> None:
    assert _deployed(_model(aliases={"champion": 7}), "e-1") == [3]


def test_a_version_without_the_new_facts_is_written_as_before() -> None:
    version = ModelVersion(version=1, weights=WeightsRef(**_weights(1)), job="u", round=2, time="t")
    weights = {"digest": f"{1:064x}", "size": 8, "bucket": "models"}
    assert dump(version) == {"version": 1, "weights": weights, "job": "u", "round": 2, "metrics": {}, "time": "t"}
    assert set(dump(_model()).pop("status")) == {"versions", "conditions"}


@pytest.mark.parametrize(("spec", "field"), [
    ({"labelSchema": {"classes": []}}, "spec.labelSchema.classes"),
    ({"labelSchema": {"classes": ["x"] * 1025}}, "spec.labelSchema.classes"),
    ({"inputs": [{"shape": [1]}]}, "spec.inputs[0].dtype"),
    ({"inputs": [{"dtype": "float32", "shape": [-2]}]}, "spec.inputs[0].shape[0]"),
    ({"outputs": [{"dtype": "float32", "shape": [1] * 17}]}, "spec.outputs[0].shape"),
    ({"licence": "x" * 2000}, "spec.licence"),
    ({"aliases": {"champion": 1}}, "spec.aliases"),
])  # fmt: skip
def test_a_malformed_description_of_a_model_is_refused(spec: dict[str, Any], field: str) -> None:
    document = {"kind": "Model", "metadata": {"name": "m"}, "spec": spec}
    with pytest.raises(Refused) as refused:
        parse_resource(document, "t")
    assert refused.value.field == field
