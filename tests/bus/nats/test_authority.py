"""The authority of a broker in operator mode: what it writes, keeps and revokes; and what the auth callout answers."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.accounts import DOOR, ENROL, GUESTS
from heliograph.bus.nats.auth_callout import CalloutKeys, is_anonymous, is_newcomer
from heliograph.bus.nats.authority import CALLOUT_KEYS, Authority
from heliograph.bus.nats.authority_keys import ALL, FILE, Origin
from heliograph.bus.nats.login import Login
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.identity.claims import AccountClaims, Allowed, OperatorClaims, UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.identity.tokens import decode, opened, signed
from heliograph.core.world import World

LOGINS = (
    Login("coordinator", "coordinator"),
    Login("alice", "user"),
    Login("agent-edge-1", "agent", "edge-1"),
    Login("participant-bob", "participant", "bob"),
)
SEED = re.compile(r"\bS[AUON][A-Z2-7]{56}\b")
SERVER = KeyPair("server", b"s" * 32)
GUEST = KeyPair("user", b"g" * 32).public


def made(directory: Path, logins: tuple[Login, ...] = LOGINS) -> Authority:
    authority = Authority(directory / "identity", World())
    authority.issue(logins)
    return authority


def accounts_of(directory: Path) -> dict[str, AccountClaims]:
    files = (directory / "identity" / "accounts").glob("*.jwt")
    found = [decode(file.read_text(), AccountClaims) for file in files]
    return {each.name: each for each in found}


def test_what_is_written_is_private_and_stays_as_it_is(tmp_path: Path) -> None:
    made(tmp_path)
    files = [path for path in (tmp_path / "identity").rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    logins = {path: path.read_bytes() for path in files if path.parent.name == "logins"}
    keys = (tmp_path / "identity" / FILE).read_bytes()
    made(tmp_path)
    assert {path: path.read_bytes() for path in logins} == logins
    assert (tmp_path / "identity" / FILE).read_bytes() == keys


def test_the_server_is_told_no_secret(tmp_path: Path) -> None:
    authority = made(tmp_path)
    told = json.dumps(dict(authority.server_options()))
    told += "".join(file.read_text() for file in (tmp_path / "identity" / "accounts").iterdir())
    assert not SEED.search(told)
    assert SEED.search((tmp_path / "identity" / FILE).read_text())


def test_the_operator_signs_accounts_and_each_account_its_logins(tmp_path: Path) -> None:
    authority = made(tmp_path)
    operator = decode(str(authority.server_options()["operator"]), OperatorClaims)
    accounts = accounts_of(tmp_path)
    own = {"user-alice", "agent-edge-1", "participant-bob"}
    assert accounts.keys() == {"CORE", "DOOR", "ENROL", "GUESTS", "SYS"} | own
    assert {each.issuer for each in accounts.values()} == {operator.subject}
    edge = UserCredentials.read(authority.credentials("agent-edge-1")).claims
    assert (edge.name, edge.issuer) == ("agent-edge-1", accounts["agent-edge-1"].subject)
    at_door = UserCredentials.read(authority.door_credentials("participant-bob")).claims
    (scope,) = (each for each in accounts[DOOR].scopes if each.role == "participant")
    assert (at_door.account, at_door.issuer, at_door.tags) == (accounts[DOOR].subject, scope.key, ("edge:bob",))
    assert not authority.door_credentials("agent-edge-1").exists()


def test_who_is_not_named_any_more_loses_the_login_and_its_key(tmp_path: Path) -> None:
    before = made(tmp_path)
    lost = UserCredentials.read(before.door_credentials("alice")).claims.subject
    after = made(tmp_path, LOGINS[:1])
    assert accounts_of(tmp_path).keys() == {"CORE", "DOOR", "ENROL", "GUESTS", "SYS"}
    assert list(accounts_of(tmp_path)[DOOR].revoked)[:1] == [lost]
    assert not after.credentials("alice").exists()
    again = made(tmp_path)
    assert UserCredentials.read(again.door_credentials("alice")).claims.subject != lost
    assert lost in accounts_of(tmp_path)[DOOR].revoked


def test_a_login_of_another_role_is_another_login(tmp_path: Path) -> None:
    before = UserCredentials.read(made(tmp_path).credentials("alice")).claims
    after = UserCredentials.read(made(tmp_path, (Login("alice", "operator"),)).credentials("alice")).claims
    assert before.issuer != after.issuer
    assert "user-alice" not in accounts_of(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"operator": "SOXX"}', "x"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: str) -> None:
    made(tmp_path)
    (tmp_path / "identity" / FILE).write_text(content)
    with pytest.raises(HeliographError, match=f"{FILE} cannot be read"):
        made(tmp_path)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "*"])
def test_no_path_is_made_of_a_name_that_is_no_label(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused):
        made(tmp_path, (Login(name, "operator"),))


def asked(options: object, signer: KeyPair = SERVER, host: object = "127.0.0.1") -> bytes:
    request = {"user_nkey": GUEST, "server_id": {"id": SERVER.public}, "connect_opts": options,
               "client_info": {"host": host}, "type": "authorization_request", "version": 2}  # fmt: skip
    return signed({"iss": signer.public, "sub": GUEST, "nats": request}, signer).encode()


def keys_of(directory: Path) -> CalloutKeys:
    made(directory)
    return CalloutKeys.read(directory / "identity" / CALLOUT_KEYS)


def test_an_anonymous_client_is_let_in_as_that_alone(tmp_path: Path) -> None:
    keys = keys_of(tmp_path)
    answer = opened(keys.answer(asked({"jwt": "of the sentinel", "lang": "go", "protocol": 1}), 1e9).decode())
    claims = decode(answer["nats"]["jwt"], UserClaims)
    accounts = accounts_of(tmp_path)
    (scope,) = (each for each in accounts[DOOR].scopes if each.role == "anonymous")
    assert (claims.subject, claims.name, claims.account) == (GUEST, "anonymous", accounts[DOOR].subject)
    assert claims.issuer == scope.key
    assert (answer["iss"], answer["aud"]) == (accounts[GUESTS].subject, SERVER.public)


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7", "", None, 5, "no address"])
def test_an_anonymous_client_of_another_machine_is_refused(tmp_path: Path, host: object) -> None:
    answer = opened(keys_of(tmp_path).answer(asked({"jwt": "of the sentinel"}, host=host), 1e9).decode())
    assert "jwt" not in answer["nats"]
    assert "needs one" in answer["nats"]["error"]


def test_a_newcomer_is_let_in_where_it_asks_for_a_login_alone(tmp_path: Path) -> None:
    keys = keys_of(tmp_path)
    answer = opened(keys.answer(asked({"jwt": "of the sentinel", "user": "newcomer"}, host="192.0.2.7"), 1e9).decode())
    claims, account = decode(answer["nats"]["jwt"], UserClaims), accounts_of(tmp_path)[ENROL]
    assert (claims.subject, claims.name, claims.issuer) == (GUEST, "newcomer", account.subject)
    assert claims.allowed == Allowed() and claims.connection_types == ("STANDARD", "WEBSOCKET")
    assert {each.rpartition(".")[2] for each in account.allowed.publish} == {"enroll", "renew"}
    assert account.allowed.subscribe == ("_INBOX.newcomer.>",)


def test_the_account_of_an_edge_that_enrols_is_no_other_logins(tmp_path: Path) -> None:
    """An edge may have the name that a user's account has."""
    authority = made(tmp_path)
    before = accounts_of(tmp_path)["user-alice"]
    told = decode(*authority.enroll_edge("user-alice", GUEST, Origin("user-alice")), AccountClaims)
    assert (told.name, told.subject == before.subject) == ("agent-user-alice", False)
    made(tmp_path)
    assert {"user-alice", "agent-user-alice"} <= accounts_of(tmp_path).keys()
    assert decode(*authority.revoke_edges(["user-alice"]), AccountClaims).revoked.keys() == {GUEST, ALL}
    assert GUEST in authority.edges.revoked("user-alice")


@pytest.mark.parametrize(
    "sent", [{"user": "alice"}, {"pass": "x"}, {"auth_token": "x"}, {"nkey": "U"}, {"sig": "x"},
             {"user": "newcomer", "pass": "x"}, {"user": "newcomer", "sig": "x"}],
)  # fmt: skip
def test_who_has_sent_a_login_is_refused(tmp_path: Path, sent: dict[str, str]) -> None:
    answer = opened(keys_of(tmp_path).answer(asked({"jwt": "of the sentinel", **sent}), 1e9).decode())
    assert "jwt" not in answer["nats"]
    assert "wrong password" in answer["nats"]["error"]


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)) | st.none() | st.text())
def test_options_of_any_form_are_judged(options: object) -> None:
    options = {**options, "pass": "x"} if isinstance(options, dict) else options
    assert not is_anonymous(options) and not is_newcomer(options)


def test_a_request_that_nobody_has_signed_is_refused(tmp_path: Path) -> None:
    keys = keys_of(tmp_path)
    honest = asked({})
    for request in (b"", b"\xff", honest[:-4], honest.replace(b".", b"..", 1), b"x" * 100_000):
        with pytest.raises(Refused):
            keys.answer(request, 1e9)


def test_the_keys_of_the_callout_show_no_secret(tmp_path: Path) -> None:
    keys = keys_of(tmp_path)
    assert not SEED.search(repr(keys))
    (tmp_path / "broken").write_text('{"door": 1}')
    for file in (tmp_path / "broken", tmp_path / "none"):
        with pytest.raises(Refused, match=r"keys of an auth callout"):
            CalloutKeys.read(file)
