"""URLs of brokers: their parts, the refusal of invalid ones, and secrets that are never shown."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph import Client
from heliograph.bus.connect import connect
from heliograph.bus.connection_url import NATS, PORTS, TLS, ConnectionUrl, Credentials, with_credentials
from heliograph.core.errors import Refused
from heliograph.core.identity.claims import UserClaims
from heliograph.core.identity.credentials import UserCredentials
from heliograph.core.identity.nkeys import KeyPair, verified
from heliograph.core.identity.tokens import encode


def parse(url: str, **environment: str) -> ConnectionUrl:
    return ConnectionUrl.parse(url, environment=environment)


@pytest.mark.parametrize("scheme", PORTS)
def test_a_scheme_has_its_port(scheme: str) -> None:
    found = parse(f"{scheme}://broker")
    assert (found.scheme, found.host, found.port) == (scheme, "broker", PORTS[scheme])
    assert found.secure == (scheme in ("tls", "wss", "mqtts"))


@pytest.mark.parametrize(
    ("url", "host", "port", "shown"),
    [
        ("nats://Broker:1", "broker", 1, "nats://broker:1"),
        ("nats://[::1]", "::1", 4222, "nats://[::1]:4222"),
        ("mqtts://me@[fe80::1]:9", "fe80::1", 9, "mqtts://[fe80::1]:9"),
        ("mqtt://broker/", "broker", 1883, "mqtt://broker:1883"),
        ("wss://broker/nats/door", "broker", 443, "wss://broker:443/nats/door"),
        ("memory://hub", "hub", 0, "memory://hub"),
    ],
)
def test_the_address_of_a_broker(url: str, host: str, port: int, shown: str) -> None:
    found = parse(url)
    assert (found.host, found.port, found.shown) == (host, port, shown)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@given(st.sampled_from(sorted(PORTS)), TEXT, TEXT)
def test_a_login_is_read_back_and_shown_nowhere(scheme: str, user: str, password: str) -> None:
    found = parse(f"{scheme}://{quote(user, safe='')}:{quote(password + 'SECRET', safe='')}@host:7")
    assert found.credentials == Credentials(user, password + "SECRET")
    assert "SECRET" not in repr(found) + str(found) + found.shown


@pytest.mark.parametrize("scheme", NATS)
def test_on_nats_a_user_without_a_password_is_a_token(scheme: str) -> None:
    found = parse(f"{scheme}://s3cret@broker")
    assert found.credentials == Credentials(token="s3cret")
    assert "s3cret" not in repr(found) + found.shown


def test_on_mqtt_a_user_may_have_no_password() -> None:
    assert parse("mqtt://me@broker").credentials == Credentials("me")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "secret",
        "//me:secret@host",
        "http://me:secret@host",
        "nats://",
        "nats://me:secret@",
        "nats://me:secret@:4222",
        "nats://me:secret",
        "nats://me:secret@host:port",
        "nats://me:secret@host:0",
        "nats://me:secret@host:65536",
        "nats://me:secret@[::1",
        "nats://me:se/secret@host",
        "nats://me:se?secret@host",
        "nats://me#secret@host:1",
        "ws://me:12/secret@host",
        "nats://me:secret@host/path",
        "nats://me:secret@host#fragment",
        "nats://me:secret@host?secret",
        "nats://me:secret@host?ca=",
        "nats://me:secret@host,",
        "nats://me:secret@host:1,other:port",
        "nats://me:secret@host:1,other:0",
        "ws://me:secret@host:1,other:2",
        "mqtt://me:secret@host?ca=file",
        "mqtts://me:secret@host?token=secret",
    ],
)
def test_an_invalid_url_is_refused_with_the_field_and_without_the_secret(url: str) -> None:
    with pytest.raises(Refused) as refused:
        ConnectionUrl.parse(url, "--server", environment={})
    assert refused.value.field == "--server"
    assert refused.value.expected
    if url != "secret":  # a bare word has no login, so it may be shown
        assert "secret" not in str(refused.value.as_dict())


def test_the_error_for_an_unencoded_login_asks_for_encoding() -> None:
    with pytest.raises(Refused, match="%2F"):
        parse("nats://me:a/b@host:1")


def test_only_accepted_schemes_are_named() -> None:
    with pytest.raises(Refused, match="expected mqtt://HOST:PORT, got nats://host:1"):
        ConnectionUrl.parse("nats://host:1", "--door", schemes=("mqtt", "mqtts"))


def test_tls_files_come_from_the_url_and_else_from_the_environment() -> None:
    environment = {"HELIOGRAPH_TLS_CA": "/env/ca", "HELIOGRAPH_TLS_KEY": "/env/key"}
    assert parse("tls://h", **environment).tls == TLS(Path("/env/ca"), None, Path("/env/key"))
    found = parse("tls://h?ca=/url/ca&certificate=/url/c", **environment).tls
    assert found == TLS(Path("/url/ca"), Path("/url/c"), Path("/env/key"))
    assert parse("tls://h").tls == TLS()
    assert parse("mqtt://h", **environment).secure is False


def test_a_context_verifies_the_broker() -> None:
    context = TLS().context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("name", ["ca", "certificate", "key"])
def test_a_file_that_is_missing_or_no_pem_is_named(tmp_path: Path, name: str) -> None:
    missing = TLS(**{"certificate": tmp_path, name: tmp_path / "none"})
    with pytest.raises(Refused, match=rf"TLS {name}: expected a readable PEM file, got .*none"):
        missing.context()
    (tmp_path / "text").write_text("no certificate")
    with pytest.raises(Refused, match=r"TLS (ca|certificate): expected PEM"):
        TLS(**{"certificate": tmp_path / "text", name: tmp_path / "text"}).context()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost", "[::1]"])
def test_without_tls_this_machine_is_reached(host: str) -> None:
    for scheme in ("nats", "mqtt", "ws"):
        ConnectionUrl.parse(f"{scheme}://u:secret@{host}:1").require_protection(environment={})
    ConnectionUrl.parse("memory://anywhere").require_protection(environment={})


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "cloud", "localhost.example", "127.0.0.1.org", "[fe80::1]"])
@pytest.mark.parametrize(("scheme", "secured"), [("nats", "tls"), ("mqtt", "mqtts"), ("ws", "wss")])
def test_other_machines_are_reached_by_tls_alone(scheme: str, secured: str, host: str) -> None:
    ConnectionUrl.parse(f"{secured}://u:secret@{host}:1").require_protection(environment={})
    url = ConnectionUrl.parse(f"{scheme}://u:secret@{host}:1")
    with pytest.raises(Refused, match=f"field --server: expected {secured}://, since .* is another machine") as refused:
        url.require_protection("--server", {"HELIOGRAPH_INSECURE": "yes"})
    assert "secret" not in str(refused.value)
    url.require_protection(environment={"HELIOGRAPH_INSECURE": "1"})


def test_nothing_connects_to_another_machine_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HELIOGRAPH_INSECURE", raising=False)
    for url in ("nats://cloud", "mqtt://cloud"):
        with pytest.raises(Refused, match="another machine"):
            connect(url)
    with pytest.raises(Refused, match="another machine"):
        Client("nats://u:secret@cloud")


ACCOUNT, USER = KeyPair("account", b"a" * 32), KeyPair("user", b"u" * 32)


def login(directory: Path, **more: Any) -> Path:
    claims = UserClaims(subject=USER.public, name="alice", **more)
    token = encode(claims, ACCOUNT, 1_800_000_000)
    file = directory / "alice@home.creds"
    UserCredentials(token, claims, None if claims.bearer else USER).write(file)
    return file


@pytest.mark.parametrize("scheme", [*NATS, "mqtt", "mqtts"])
def test_a_file_of_credentials_is_the_login(scheme: str, tmp_path: Path) -> None:
    file = login(tmp_path)
    url = with_credentials(f"{scheme}://me:secret@host:7", file)
    assert "secret" not in url
    found = parse(url)
    assert (found.credentials, found.addresses) == (Credentials(file=file), ["host:7"])
    assert found.credentials.name == "alice"
    assert USER.seed not in repr(found) + found.shown
    assert parse(with_credentials(url, tmp_path / "other.creds")).credentials.file == tmp_path / "other.creds"


def test_files_of_tls_stay_beside_that_of_the_login(tmp_path: Path) -> None:
    found = parse(with_credentials("tls://host?ca=/ca.pem&handshake=upgrade", tmp_path / "a.creds"))
    assert (found.tls.ca, found.credentials.file) == (Path("/ca.pem"), tmp_path / "a.creds")
    assert found == parse(f"tls://host?ca=/ca.pem&handshake=upgrade&credentials={tmp_path}/a.creds")


@pytest.mark.parametrize(
    "url",
    ["nats://me:pw@host?credentials=/a", "nats://token@host?credentials=/a", "mqtt://me@host?credentials=/a",
     "memory://host?credentials=/a", "nats://host?credentials=", "nats://host?credential=/a"],
)  # fmt: skip
def test_a_file_of_credentials_beside_another_login_or_at_the_wrong_place_is_refused(url: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(url)
    assert "pw" not in str(refused.value)


def test_the_file_is_read_each_time(tmp_path: Path) -> None:
    found = parse(with_credentials("mqtt://host", login(tmp_path, bearer=True))).credentials
    user, password = found.of_mqtt()
    assert (user, found.of_nats("nonce")) == ("alice", {"jwt": password, "sig": ""})
    login(tmp_path, bearer=True, expires=1_900_000_000)
    assert found.of_mqtt()[1] != password
    assert found.file is not None
    found.file.unlink()
    with pytest.raises(Refused, match=r"alice@home\.creds"):
        found.of_mqtt()


def test_a_nonce_is_signed_for_nats(tmp_path: Path) -> None:
    said = parse(with_credentials("nats://host", login(tmp_path))).credentials.of_nats("nonce")
    assert verified(USER.public, base64.urlsafe_b64decode(said["sig"] + "=="), b"nonce")
    assert parse("nats://me:pw@host").credentials.of_nats("nonce") == {"user": "me", "pass": "pw"}
    assert parse("nats://token@host").credentials.of_nats("nonce") == {"auth_token": "token"}
    assert parse("nats://host").credentials.of_nats("nonce") == {}


@pytest.mark.parametrize("scheme", ["nats", "tls", "mqtt", "mqtts"])
def test_a_url_lists_the_servers_of_a_cluster(scheme: str) -> None:
    found = parse(f"{scheme}://me:s3cret@one:1,two,[::1]:3")
    assert found.places == (("one", 1), ("two", PORTS[scheme]), ("::1", 3))
    assert found.shown == f"{scheme}://one:1,two:{PORTS[scheme]},[::1]:3"
    assert found.credentials == Credentials("me", "s3cret")


def test_a_list_of_servers_stays_here_where_all_do(tmp_path: Path) -> None:
    url = with_credentials("nats://127.0.0.1:1,localhost:2", tmp_path / "login")
    found = parse(url)
    assert found.others == (("localhost", 2),)
    found.require_protection(environment={})
    with pytest.raises(Refused, match="since elsewhere is another machine"):
        parse("nats://127.0.0.1:1,elsewhere:2").require_protection(environment={})
