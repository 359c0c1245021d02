"""A resource that a custom resource owns is changed and deleted by it alone."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.coordinator.authorization.managed import creator_in
from heliograph.coordinator.authorization.rights import EVERYTHING, Rights
from heliograph.core.errors import Refused
from tests.coordinator.api.desk import MODEL, Desk

OWNER = creator_in("default")
OPERATOR_OF_KUBERNETES = Rights(OWNER, {"default": "admin"})
CHANGED: dict[str, Any] = {**MODEL, "spec": {"description": "second"}}


async def managed(desk: Desk) -> None:
    await desk.ask("models", "create", MODEL, OWNER, OPERATOR_OF_KUBERNETES)


@pytest.mark.parametrize("rights", [EVERYTHING, Rights("alice", {"default": "admin"})])
async def test_nobody_else_changes_it_and_the_refusal_says_who_does(desk: Desk, rights: Rights) -> None:
    await managed(desk)
    with pytest.raises(Refused) as refused:
        await desk.ask("models", "update", CHANGED, "alice", rights)
    assert (refused.value.code, refused.value.field) == ("managed", "metadata.name")
    assert "kubectl edit model one --namespace default" in str(refused.value)
    assert (await desk.ask("models", "get", {"name": "one"}))["spec"]["description"] == "first"


async def test_its_custom_resource_changes_and_deletes_it(desk: Desk) -> None:
    await managed(desk)
    await desk.ask("models", "update", CHANGED, OWNER, OPERATOR_OF_KUBERNETES)
    assert (await desk.ask("models", "get", {"name": "one"}))["spec"]["description"] == "second"
    await desk.ask("models", "delete", {"name": "one"}, OWNER, OPERATOR_OF_KUBERNETES)


async def test_the_custom_resource_of_another_namespace_does_not(desk: Desk) -> None:
    await managed(desk)
    other = Rights(creator_in("other"), {"other": "admin", "default": "admin"})
    with pytest.raises(Refused, match="kubectl delete model one --namespace default"):
        await desk.ask("models", "delete", {"name": "one"}, creator_in("other"), other)


async def test_an_operator_deletes_it_only_while_kubernetes_is_not_reached(desk: Desk) -> None:
    await managed(desk)
    desk.managing = True
    with pytest.raises(Refused, match="while no coordinator sees the custom resource"):
        await desk.ask("models", "delete", {"name": "one"})
    desk.managing = False
    with pytest.raises(Refused, match="kubectl delete"):
        await desk.ask("models", "delete", {"name": "one"}, "alice", Rights("alice", {"default": "admin"}))
    await desk.ask("models", "delete", {"name": "one"})
