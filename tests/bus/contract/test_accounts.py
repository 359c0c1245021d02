"""What crosses the borders of accounts follows from the registry, and no name widens it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.accounts import (
    CORE_ROLES,
    DOOR_ROLES,
    account_of,
    core_exports,
    core_imports,
    core_template,
    door_exports,
    door_imports,
    door_template,
    imports_of,
)
from heliograph.bus.contract.launch_permissions import Launch, launch_permissions
from heliograph.bus.contract.permissions import permissions
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.contract.topics import DEFAULT_ROOT, EDGE, Role
from heliograph.core.errors import Refused
from heliograph.core.identity.claims import Export, Import

LABELS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
ROOTS = st.sampled_from([DEFAULT_ROOT, "tenants/a"])
MOST_IMPORTS = 8
"""Imports of an edge's account: connecting costs more than linear time with more."""


def own_imports(role: Role, name: str, root: str = DEFAULT_ROOT) -> tuple[Import, ...]:
    logins = {"agent": "", "user": name, "participant": f"participant-{name}"}
    return imports_of(role, "CORE", "DOOR", root, login=logins[role], edge="" if role == "user" else name)


def matches(pattern: str, subject: str) -> bool:
    ours, theirs = pattern.split("."), subject.split(".")
    for place, word in enumerate(ours):
        if word == ">":
            return len(theirs) > place
        if place >= len(theirs) or (word not in ("*", theirs[place])):
            return False
    return len(ours) == len(theirs)


def test_an_edges_own_topics_take_one_import_in_each_direction() -> None:
    imports = own_imports("agent", "edge-1")
    of_edge = [(each.type, each.subject) for each in imports if each.subject.startswith("heliograph.edge.")]
    assert of_edge == [("service", "heliograph.edge.edge-1.up.>"), ("stream", "heliograph.edge.edge-1.down.>")]
    assert "$JS.API.DIRECT.GET.*.heliograph.edge.edge-1.>" in [each.subject for each in imports]


@given(LABELS, ROOTS)
def test_an_edge_imports_what_the_registry_lets_it_publish_and_hear(edge: str, root: str) -> None:
    imports = own_imports("agent", edge, root)
    dotted = root.replace("/", ".")
    for topic in BUILT_IN.topics:
        if topic.node_only or not topic.of_edge or topic.words[2] not in ("up", "down"):
            continue
        subject = f"{dotted}.{topic.filter(edge=edge).replace('/', '.').replace('+', 'x').replace('#', 'x')}"
        kind = "service" if topic.words[2] == "up" else "stream"
        assert any(each.type == kind and matches(each.subject, subject) for each in imports), topic.pattern


@given(LABELS, LABELS, ROOTS)
def test_no_import_of_an_edge_names_another_one(edge: str, other: str, root: str) -> None:
    if other in (edge, *root.split("/")):
        return
    for each in own_imports("agent", edge, root):
        words = each.subject.split(".")
        if EDGE in words:
            at = words.index(EDGE)
            assert words[at + 1] == edge
        assert not matches(each.subject, f"{root.replace('/', '.')}.edge.{other}.up.report")
        assert not matches(each.subject, f"{root.replace('/', '.')}.edge.{other}.down.task")


@pytest.mark.parametrize("name", ["*", ">", "a.b", "a b", "", "A", "a*", "{{name()}}", "$JS"])
def test_a_name_that_is_no_label_gets_no_account(name: str) -> None:
    with pytest.raises(Refused):
        own_imports("participant", name)
    if name:
        with pytest.raises(Refused):
            own_imports("agent", name)
        with pytest.raises(Refused):
            own_imports("user", name)


@given(LABELS, ROOTS)
def test_every_import_is_exported(name: str, root: str) -> None:
    core, door = core_exports(root), door_exports(root)
    imported = [*door_imports("CORE", root), *core_imports("DOOR", root)]
    for role in ("agent", "user", "participant"):
        imported += own_imports(role, name, root)  # type: ignore[arg-type]
    for each in imported:
        offered = core if each.account == "CORE" else door
        assert any(one.type == each.type and matches(one.subject, each.subject) for one in offered), each


@pytest.mark.parametrize("exports", [core_exports(), door_exports()])
def test_no_export_contains_another(exports: tuple[Export, ...]) -> None:
    """nats-server refuses an account whose exports overlap."""
    for one in exports:
        for other in exports:
            same = one is other or one.type != other.type
            assert same or not matches(one.subject, other.subject.replace("*", "x").replace(">", "x.x"))


def test_an_edges_imports_stay_few() -> None:
    assert len(own_imports("agent", "edge-1")) <= MOST_IMPORTS


def test_who_asks_is_told_for_requests_alone() -> None:
    for imports in (door_imports("CORE"), own_imports("user", "alice"), own_imports("participant", "bob")):
        for each in imports:
            assert each.share == each.subject.startswith("heliograph.request."), each


def test_permissions_name_the_user_by_the_servers_template() -> None:
    user = door_template("user")
    assert "heliograph.reply.{{name()}}.*" in user.subscribe
    assert "heliograph.edge.{{tag(edge)}}.up.model-update.*" in door_template("participant").publish
    for role in DOOR_ROLES:
        if role != "coordinator":
            assert not any(each.startswith("$") for each in door_template(role).publish)
            assert door_template(role).deny_publish


@pytest.mark.parametrize("role", [role for role in CORE_ROLES if role != "cloud-worker"])
def test_a_login_in_core_may_what_its_role_may(role: Role) -> None:
    found = permissions(role, "cloud", edge="cloud" if role == "agent" else "", login="alice")
    template = core_template(role)
    filled = tuple(each.replace("{{name()}}", "alice") for each in template.subscribe)
    assert (template.publish, filled) == (found.publish, found.subscribe)


@pytest.mark.parametrize("root", [DEFAULT_ROOT, "tenants/a"])
def test_a_launch_in_core_may_what_is_its_own(root: str) -> None:
    template, launch = core_template("cloud-worker", root), Launch.of("w", "j", "u", "cloud")
    names = {"{{name()}}": "worker-w", "{{tag(worker)}}": "w", "{{tag(job)}}": "j", "{{tag(uid)}}": "u"}

    def filled(subjects: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(".".join(names.get(word, word) for word in each.split(".")) for each in subjects)

    found = launch_permissions("cloud", launch, root)
    assert (filled(template.publish), filled(template.subscribe)) == (found.publish, found.subscribe)
    assert (template.deny_publish, template.answers) == (found.deny, True)
    of_role = permissions("cloud-worker", "cloud", root)
    for narrow, wide in ((found.publish, of_role.publish), (found.subscribe, of_role.subscribe)):
        for each in narrow:
            if not each.startswith(("$", "_INBOX.")):
                assert any(matches(one, each) for one in wide), each


def test_each_login_has_its_account() -> None:
    assert account_of("agent", "agent-edge-1", "edge-1") == "agent-edge-1"
    assert account_of("agent", "agent-cloud", "cloud") == "CORE"
    assert account_of("user", "alice") == "user-alice"
    assert account_of("participant", "participant-bob", "bob") == "participant-bob"
    assert {account_of(role, "x") for role in ("coordinator", "operator", "cloud-worker", "worker")} == {"CORE"}  # type: ignore[arg-type]
    assert account_of("anonymous", "") == "DOOR"
    assert account_of("newcomer", "newcomer") == "ENROL"
