"""Scopes in projects: who reads, who creates, who changes what is whose. Every verb of the registry is judged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.features import WRITES
from heliograph.bus.contract.permissions import NEWCOMER, OPERATOR
from heliograph.bus.contract.registry import BUILT_IN
from heliograph.bus.contract.resources import Edge, Grant, Invitation, InvitationSpec, Metadata, Model, Resource, User
from heliograph.bus.contract.resources.user import UserSpec
from heliograph.bus.contract.scopes import SCOPES, Scope, covers
from heliograph.coordinator.authorization.callers import Callers, Grants, parse_grant
from heliograph.coordinator.authorization.rights import EVERYTHING, Rights, require_verb, require_write
from heliograph.core.errors import Refused

KEY = "U" + "A" * 55
scopes = st.sampled_from(SCOPES)
VERBS = [(plural, each.verb(name)) for plural, each in BUILT_IN.features.items() for name in each.verb_names
         if name not in WRITES]  # fmt: skip


def model(owner: str = "bob", project: str = "north") -> Model:
    return Model(metadata=Metadata(name="m", namespace=project, created_by=owner))


def of(plural: str, project: str) -> Resource:
    """Return something of a kind; only its identity matters here."""
    if plural == "invitations":
        return Invitation(metadata=Metadata(name="x", created_by="bob"), spec=InvitationSpec(key=KEY, project=project))
    kind: Any = BUILT_IN.features[plural].kind
    made: Resource = kind.model_construct(metadata=Metadata(name="x", namespace=project, created_by="bob"))
    return made


def may(rights: Rights, verb: str, resource: Resource, plural: str = "models") -> bool:
    try:
        if verb in WRITES:
            require_write(rights, verb, resource, resource if verb == "update" else None, "t")
        else:
            require_verb(rights, BUILT_IN.features[plural].verb(verb), resource, "t")
    except Refused as error:
        assert (error.code, error.field) == ("forbidden", "scope")
        return False
    return True


@pytest.mark.parametrize(
    ("scope", "reads", "creates", "changes_own", "changes_others"),
    [("viewer", True, False, False, False), ("submitter", True, True, True, False), ("admin", True, True, True, True),
     ("operator", True, True, True, True)],
)
def test_what_each_scope_may(scope: Scope, reads: bool, creates: bool, changes_own: bool, changes_others: bool) -> None:
    rights = Rights("alice", {"north": scope})
    assert rights.sees(model()) is reads
    assert may(rights, "create", model()) is creates
    for verb in ("update", "delete", "alias", "rollout", "rollback", "register"):
        assert may(rights, verb, model("alice")) is changes_own, verb
        assert may(rights, verb, model("bob")) is changes_others, verb


@given(scopes, st.sampled_from(VERBS))
def test_a_scope_holds_in_its_project_alone(scope: Scope, named: tuple[str, Any]) -> None:
    plural, verb = named
    rights, elsewhere = Rights("alice", {"south": scope}), of(plural, "north")
    if scope == "operator":
        return
    assert not rights.sees(elsewhere)
    try:
        require_verb(rights, verb, elsewhere, "t")
    except Refused as error:
        assert error.code == "forbidden"
    else:  # what it may not see it does not find; and whoever gets a login proves by itself who it is
        assert verb.scope == "anyone" or _reads(verb)


def _reads(verb: Any) -> bool:
    return verb.scope is None and not getattr(verb.body, "changes", False)


@given(scopes, scopes, st.sampled_from(VERBS), st.booleans())
def test_more_is_never_less(one: Scope, other: Scope, named: tuple[str, Any], own: bool) -> None:
    plural, verb = named
    less, more = sorted((one, other), key=SCOPES.index)
    name = "bob" if own else "alice"
    if may_quietly(Rights(name, {"north": less}), verb, of(plural, "north")):
        assert may_quietly(Rights(name, {"north": more}), verb, of(plural, "north"))
    assert may_quietly(EVERYTHING, verb, of(plural, "north"))


def may_quietly(rights: Rights, verb: Any, resource: Resource) -> bool:
    try:
        require_verb(rights, verb, resource, "t")
    except Refused:
        return False
    return True


@pytest.mark.parametrize("named", VERBS, ids=lambda named: f"{named[0]}-{named[1].name}")
def test_without_a_scope_only_who_proves_itself_asks(named: tuple[str, Any]) -> None:
    plural, verb = named
    nobody, found = Rights("alice"), of(plural, "north")
    assert may_quietly(nobody, verb, found) is (verb.scope == "anyone" or _reads(verb))
    assert not nobody.sees(found)


@pytest.mark.parametrize("named", VERBS, ids=lambda named: f"{named[0]}-{named[1].name}")
def test_a_participant_takes_part_and_does_nothing_else(named: tuple[str, Any]) -> None:
    plural, verb = named
    participant = Rights("participant-bob", participates=True)
    taken = plural == "jobs" and verb.name in ("join", "weights", "upload")
    assert may_quietly(participant, verb, of(plural, "")) is (taken or verb.scope == "anyone")


def test_what_belongs_to_no_project_is_the_operators() -> None:
    admin, operator = Rights("alice", {"north": "admin"}), Rights("root", {"default": "operator"})
    shared, own = Edge(metadata=Metadata(name="e")), Edge(metadata=Metadata(name="e", namespace="north"))
    assert admin.sees(shared) and admin.sees(own)
    for verb in ("delete", "revoke"):
        assert not may(admin, verb, shared, "edges") and may(admin, verb, own, "edges")
        assert may(operator, verb, shared, "edges")
    everywhere = Invitation(metadata=Metadata(name="e"), spec=InvitationSpec(key=KEY))
    north = Invitation(metadata=Metadata(name="e"), spec=InvitationSpec(key=KEY, project="north"))
    assert not may(admin, "create", everywhere) and may(admin, "create", north) and may(operator, "create", everywhere)
    alice = User(metadata=Metadata(name="alice"))
    assert admin.sees(alice) and not may(admin, "update", alice) and not Rights("bob", {"north": "admin"}).sees(alice)


def test_a_resource_stays_in_its_project() -> None:
    with pytest.raises(Refused, match="create it in the other project"):
        require_write(EVERYTHING, "update", model(project="south"), model(), "t")


class Store:
    """Users by name."""

    def __init__(self, **scopes: Scope) -> None:
        self.users = {
            name: User(metadata=Metadata(name=name), spec=UserSpec(grants=[Grant(project="north", scope=scope)]))
            for name, scope in scopes.items()
        }

    def get(self, kind: type[User], name: str) -> User | None:
        return self.users.get(name)


def callers(grants: Grants | None = None, **scopes: Scope) -> Callers:
    store: Any = Store(**scopes)
    return Callers(store, grants or Grants())


def test_rights_follow_from_the_login_that_the_broker_names() -> None:
    found = callers(alice="admin")
    assert found.rights("alice") == Rights("alice", {"north": "admin"})
    assert found.rights("bob") == Rights("bob", {"default": "submitter"})
    assert found.rights(OPERATOR).operates and found.rights(None).operates
    assert found.rights("participant-carol") == Rights("participant-carol", participates=True)
    assert found.rights(NEWCOMER) == Rights()


def test_a_client_of_an_external_broker_owns_nothing() -> None:
    """Nobody proves there who asks: a name in a reply address is a claim."""
    found = callers(Grants({}, {"south": "submitter"}), alice="admin")
    rights = found.rights("alice", external=True)
    assert rights == Rights("", {"south": "submitter"})
    assert not may(rights, "delete", model("alice", "south")) and not may(rights, "delete", model("", "south"))
    assert callers(Grants({})).rights("bob").scopes == {}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("none", {}), ("viewer", {"default": "viewer"}), ("admin@north", {"north": "admin"}),
     ("operator", {"default": "operator"})],
)  # fmt: skip
def test_a_grant_is_read(text: str, wanted: dict[str, str]) -> None:
    assert parse_grant(text, "--default-scope") == wanted


@pytest.mark.parametrize("text", ["", "root", "admin@", "admin@No", "@north", "none@north"])
def test_another_text_is_no_grant(text: str) -> None:
    with pytest.raises(Refused, match="SCOPE@PROJECT"):
        parse_grant(text, "--default-scope")


def test_scopes_are_ordered() -> None:
    assert [[covers(have, needed) for needed in SCOPES] for have in (None, *SCOPES)] == [
        [False] * 4, [True, False, False, False], [True, True, False, False], [True, True, True, False], [True] * 4,
    ]  # fmt: skip


def test_only_operators_revoke_a_group() -> None:
    verb, topic = BUILT_IN.features["invitations"].verb("revoke"), "heliograph/request/invitations/revoke"
    for rights in (Rights(), Rights("alice", {"default": "admin"}), Rights("participant-x", participates=True)):
        with pytest.raises(Refused) as refused:
            require_verb(rights, verb, None, topic)
        assert refused.value.code == "forbidden"
    require_verb(Rights("root", {"default": "operator"}), verb, None, topic)
