"""Aliases: they move, go back one after the other, and bind edges; a wrong request changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from heliograph.bus.contract.model_requests import AliasChange, Rollback
from heliograph.bus.contract.resources import Model
from heliograph.coordinator.registry.aliases import MOST_ALIASES, MOVES_KEPT, change, referred, roll_back
from heliograph.core.errors import Refused


def _model(newest: int = 5, *, declared: bool = False, unfinished: int = 0) -> Model:
    def weights(number: int) -> dict[str, Any]:
        return {"digest": f"{number:064x}", "size": 8, "bucket": "models"}

    status = {"versions": [{"version": number, "weights": weights(number)} for number in range(1, newest + 1)]}
    if unfinished:
        status["unfinished"] = [{"version": unfinished, "weights": weights(unfinished)}]
    spec = {"weights": weights(0)} if declared else {}
    return Model.model_validate({"metadata": {"name": "m"}, "spec": spec, "status": status})


def _moved(model: Model, alias: str, *numbers: int) -> Model:
    for number in numbers:
        request = AliasChange(name="m", alias=alias, version=number)
        model = change(model, request, "ann", f"t{len(model.status.moves):03}")
    return model


def _back(model: Model, alias: str = "champion", to: int | None = None) -> Model:
    return roll_back(model, Rollback(name="m", alias=alias, to=to), "ann", f"t{len(model.status.moves):03}")


def _refused(model: Model, request: AliasChange | Rollback) -> Refused:
    decide: Any = change if isinstance(request, AliasChange) else roll_back
    with pytest.raises(Refused) as refused:
        decide(model, request, "ann", "now")
    return refused.value


def test_an_alias_moves_and_the_move_is_noted() -> None:
    model = _moved(_model(), "champion", 2, 4)
    assert model.status.aliases == {"champion": 4}
    last = model.status.moves[-1]
    assert (last.alias, last.version, last.was, last.by, last.rollback) == ("champion", 4, 2, "ann", False)
    assert _moved(model, "champion", 4) is model  # where it is already


def test_rollbacks_go_back_one_after_the_other_and_then_say_that_there_is_none() -> None:
    model = _moved(_model(), "blue", 1, 2, 3)
    model = _back(model, "blue")
    assert model.status.aliases == {"blue": 2}
    model = _moved(model, "blue", 5)  # 1, 2, 5: what was taken back is not gone back to
    gone_back = [(model := _back(model, "blue")).status.aliases["blue"] for _ in range(2)]
    assert gone_back == [2, 1]
    error = _refused(model, Rollback(name="m", alias="blue"))
    assert (error.code, error.field, error.expected) == ("no-version", "to", "1, 2, 3, 4, 5")
    assert _back(model, "blue", 4).status.aliases == {"blue": 4}


def test_a_rollback_of_a_model_without_a_champion_deploys_the_version_before() -> None:
    model = _back(_model(3))
    assert model.status.aliases == {"champion": 2}
    assert _back(model).status.aliases == {"champion": 1}
    assert _back(_model(1, declared=True)).status.aliases == {"champion": 0}
    made = _moved(_model(3), "champion", 2)
    assert _back(made).status.aliases == {"champion": 3}  # the newest was deployed before
    assert _back(_back(made)).status.aliases == {"champion": 2}
    assert _back(_back(_moved(_model(9), "champion", 7), to=4)).status.aliases == {"champion": 3}
    for none in (_model(1), _model(0), _model(0, declared=True)):
        assert _refused(none, Rollback(name="m")).code == "no-version"


def test_moves_are_kept_as_long_as_rollbacks_may_need_them() -> None:
    model = _moved(_model(40), "blue", 1)
    model = _moved(model, "champion", *range(1, 41))
    assert [each.version for each in model.status.moves if each.alias == "champion"] == [*range(41 - MOVES_KEPT, 41)]
    assert [each.version for each in model.status.moves if each.alias == "blue"] == [1]


def test_an_edge_is_bound_to_one_alias_at_most() -> None:
    model = _moved(_model(), "blue", 1)
    model = _moved(model, "green", 2)
    model = change(model, AliasChange(name="m", alias="blue", edges=["e-2", "e-1", "e-1"]), "ann", "t")
    model = change(model, AliasChange(name="m", alias="green", edges=["e-2", "e-3"]), "ann", "t")
    assert model.status.bindings == {"blue": ["e-1"], "green": ["e-2", "e-3"]}
    assert change(model, AliasChange(name="m", alias="green", edges=["e-3", "e-2"]), "ann", "t") is model
    freed = change(model, AliasChange(name="m", alias="green", edges=[]), "ann", "t")
    assert (freed.status.bindings, freed.status.aliases) == ({"blue": ["e-1"]}, {"blue": 1, "green": 2})
    removed = change(model, AliasChange(name="m", alias="blue", remove=True), "ann", "t")
    assert (removed.status.bindings, removed.status.aliases) == ({"green": ["e-2", "e-3"]}, {"green": 2})
    assert not any(each.alias == "blue" for each in removed.status.moves)


def test_who_saw_another_version_is_refused() -> None:
    model = _moved(_model(), "champion", 2)
    error = _refused(model, AliasChange(name="m", alias="champion", version=3, was=1))
    assert (error.code, error.field, error.got) == ("conflict", "was", "1")
    assert error.expected == "version 2, which champion names now"
    assert "no alias blue" in _refused(model, AliasChange(name="m", alias="blue", version=3, was=1)).expected


@pytest.mark.parametrize(("fields", "code", "field"), [
    ({"alias": "champion", "version": 9}, "no-version", "version"),
    ({"alias": "champion", "version": 0}, "no-version", "version"),  # it was declared without weights
    ({"alias": "champion", "version": 7}, "no-version", "version"),  # what a failed job left
    ({"alias": "blue", "edges": ["e-1"]}, "not-found", "alias"),
    ({"alias": "blue", "remove": True}, "not-found", "alias"),
])  # fmt: skip
def test_what_cannot_be_done_is_refused(fields: dict[str, Any], code: str, field: str) -> None:
    error = _refused(_model(unfinished=7), AliasChange(name="m", **fields))
    assert (error.code, error.field) == (code, field)


def test_a_model_has_so_many_aliases_and_no_more() -> None:
    model = _model()
    for number in range(MOST_ALIASES):
        model = _moved(model, f"a-{number}", 1)
    assert _refused(model, AliasChange(name="m", alias="one-more", version=1)).code == "too-many"
    assert _moved(model, "a-0", 2).status.aliases["a-0"] == 2


@pytest.mark.parametrize("fields", [
    {"alias": "3", "version": 1}, {"alias": "latest", "version": 1}, {"alias": "Blue", "version": 1},
    {"alias": "blue"}, {"alias": "blue", "version": -1}, {"alias": "blue", "version": "1"},
    {"alias": "blue", "version": 1, "remove": True}, {"alias": "champion", "edges": ["e-1"]},
    {"alias": "blue", "edges": ["E"]}, {"alias": "blue", "edges": ["e"] * 1025},
    {"alias": "blue", "version": 1, "x": 1},
])  # fmt: skip
def test_a_malformed_request_is_no_request(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AliasChange.model_validate({"name": "m"} | fields)


def test_what_is_referred_to_is_what_is_deployed_named_or_gone_back_to() -> None:
    assert referred(_model(9)) == {9, 8}
    assert referred(_model(0)) == set()
    model = _moved(_model(9), "champion", 3, 5, 7)
    assert referred(_moved(model, "blue", 2)) == {2, 5, 6, 7}
    assert referred(_moved(_model(9), "champion", 3)) == {2, 3, 9}
