"""Connection URLs: address of a broker, login and TLS files. Every client parses its URL here.

    scheme://[user[:password]@]host[:port][,host[:port]…][?credentials=FILE&ca=FILE&certificate=FILE&key=FILE
        &handshake=upgrade&proxy=URL&patience=SECONDS]

All but WebSocket URLs may list several hosts: the servers of one cluster. A client is connected to one of them, and
goes to another when that one ends. It reaches no host that its URL does not list.

``credentials`` names a file with a token of NATS and the seed of its key, as NATS's tools write it (``.creds``): the
login of a broker in operator mode. It is read at each connect, so that a renewed one is used without a restart.

``tls``, ``wss`` and ``mqtts`` speak TLS 1.3 from the first byte on. ``tls`` with ``handshake=upgrade`` reaches a NATS
server that says its first line in clear text, as one without ``handshake_first`` does: who sits between can change that
line, and neither reads nor changes what follows. ``nats`` switches to TLS if the server requires it. TLS files that the
URL does not name come from the environment: ``HELIOGRAPH_TLS_CA``, ``…_CERTIFICATE``, ``…_KEY``. On NATS a user without
a password is a token, as in the NATS tools. Percent-encode special characters of a user or password (RFC 3986), and put
an IPv6 address in brackets.

``proxy`` names an HTTP proxy that leads to a NATS server, ``http://[user:password@]host:port``, percent-encoded where
it has a login. Where the URL names none, ``HELIOGRAPH_PROXY`` does, but for addresses of this machine.

``patience`` is the number of seconds without a sign of life after which a connection counts as cut, on a link that is
fast (``bus/link_life.py``). Where the URL has none, ``HELIOGRAPH_LINK_PATIENCE`` has it.

Without TLS only this machine's own addresses are reached, unless ``HELIOGRAPH_INSECURE`` is ``1``: on any other way
passwords and data can be read and changed.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from heliograph.bus.link_life import SILENCE
from heliograph.bus.proxy import PROXY, Proxy
from heliograph.core.errors import Refused

if TYPE_CHECKING:
    import ssl

    from heliograph.core.identity.credentials import UserCredentials

PORTS = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443, "mqtt": 1883, "mqtts": 8883, "memory": 0}
"""Default port of each scheme."""
NATS = ("nats", "tls", "ws", "wss")
MQTT = ("mqtt", "mqtts")
SECURE = ("tls", "wss", "mqtts")
SCHEMES = (*NATS, *MQTT, "memory")
INSECURE = "HELIOGRAPH_INSECURE"
"""The environment variable that, as ``1``, allows connections to other machines without TLS."""
TLS_FILES = ("ca", "certificate", "key")
_CLUSTERED = ("nats", "tls", "mqtt", "mqtts")
"""Schemes whose URLs may list several hosts."""
_AUTHORITY = re.compile(r"([^:/?#]*://)([^/?#]*)")
_CREDENTIALS, _PROXY = "credentials", "proxy"
_PATIENCE = "patience"
PATIENCE = "HELIOGRAPH_LINK_PATIENCE"
"""The environment variable with the seconds of silence after which a connection counts as cut."""
LEAST_PATIENCE, MOST_PATIENCE = 0.2, 600.0
_HANDSHAKE, _UPGRADE = "handshake", "upgrade"
_NO_PORT = re.compile(r":(?!//)(?!\d{1,5}(?:/|$))[^/]*")


@dataclass(frozen=True, slots=True)
class TLS:
    """The PEM files of a TLS connection.

    Attributes:
        ca: certificates of the trusted authorities; None for those of the system.
        certificate: this client's certificate, for a broker that requires one.
        key: private key of ``certificate``; None if it is in the same file.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context that verifies the broker's certificate and name. Raises Refused if a file is unusable."""
        import ssl

        for name in TLS_FILES:
            file: Path | None = getattr(self, name)
            try:
                if file is not None:
                    os.close(os.open(file, os.O_RDONLY))
            except OSError:
                raise Refused("invalid", field=f"TLS {name}", expected="a readable PEM file", got=str(file)) from None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError as error:
            raise self._unusable("ca", error) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if self.certificate is not None:
            try:
                # an empty passphrase makes an encrypted key an error instead of a prompt at the terminal
                context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
            except ssl.SSLError as error:
                raise self._unusable("certificate", error) from None
        return context

    @property
    def query(self) -> str:
        """The files as the query of a URL; empty without any."""
        named = {name: str(file) for name in TLS_FILES if (file := getattr(self, name)) is not None}
        return f"?{urlencode(named, safe='/')}" if named else ""

    def _unusable(self, name: str, error: Exception) -> Refused:
        expected = f"PEM that OpenSSL reads ({str(error)[:80]})"
        return Refused("invalid", field=f"TLS {name}", expected=expected, got=str(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Credentials:
    """The login of a connection; all fields are empty for an anonymous one.

    Attributes:
        file: a file of credentials, instead of the other fields.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    file: Path | None = None

    def read(self) -> UserCredentials | None:
        """Return the file's credentials as they are now; None without a file. Raise Refused if it has none."""
        if self.file is None:
            return None
        from heliograph.core.identity.credentials import UserCredentials

        return UserCredentials.read(self.file)

    def of_nats(self, nonce: str) -> dict[str, str]:
        """Return what a client says in CONNECT to log in, after a server that has sent this nonce. Raise Refused as
        ``read`` does."""
        if (found := self.read()) is not None:
            return {"jwt": found.token, "sig": found.answer(nonce)}
        if self.user:
            return {"user": self.user, "pass": self.password}
        return {"auth_token": self.token} if self.token else {}

    def of_mqtt(self) -> tuple[str, str]:
        """Return the user and the password that a client sends; a file's token is its password. Raise Refused as
        ``read`` does."""
        found = self.read()
        return (self.user, self.password) if found is None else (found.claims.name, found.token)

    @property
    def name(self) -> str:
        """The name of the login; empty for an anonymous one and for a token's. Raise Refused as ``read`` does."""
        found = self.read()
        return self.user if found is None else found.claims.name


@dataclass(frozen=True, slots=True)
class ConnectionUrl:
    """The parsed URL of a broker. Neither ``repr`` nor ``shown`` contains a secret."""

    scheme: str
    host: str
    port: int
    path: str = ""
    credentials: Credentials = Credentials()
    tls: TLS = TLS()
    upgrades: bool = False
    """Whether TLS begins after the server's first line in clear text, instead of at once."""
    others: tuple[tuple[str, int], ...] = ()
    """Host and port of each further server of the cluster."""
    proxy: Proxy | None = None
    """The HTTP proxy on the way; None for a direct connection."""
    patience: float = SILENCE
    """Seconds of silence after which a connection counts as cut, on a link that is fast."""

    @classmethod
    def parse(
        cls,
        url: str,
        field: str = "url",
        *,
        schemes: Sequence[str] = SCHEMES,
        environment: Mapping[str, str] = os.environ,
    ) -> ConnectionUrl:
        """Parse ``url``. Raises Refused naming ``field``, and no secret, if the URL is invalid.

        Args:
            schemes: the accepted schemes.
            environment: names the TLS files that the URL does not name.
        """
        single, listed = _listed(url)
        try:
            parts = urlsplit(single)
            port = parts.port
            others = [(found.hostname or "", found.port) for found in (urlsplit(f"//{each}") for each in listed)]
        except ValueError:  # an invalid port or an unclosed bracket
            raise _refused(url, field, schemes) from None
        scheme, host = parts.scheme, parts.hostname
        if others and (scheme not in _CLUSTERED or any(not host or port == 0 for host, port in others)):
            raise _refused(url, field, schemes)
        behind = parts.path + parts.query + parts.fragment  # an '@' there: a '/', '?' or '#' in the login cut it off
        path = parts.path if scheme in ("ws", "wss") else ""
        if scheme not in schemes or not host or port == 0 or "@" in behind or parts.fragment:
            raise _refused(url, field, schemes)
        if parts.path not in (path, "/"):
            raise _refused(url, field, schemes)
        return cls(
            scheme,
            host,
            PORTS[scheme] if port is None else port,
            path,
            _credentials(parts, field),
            _tls(parts, field, environment),
            (_HANDSHAKE, _UPGRADE) in parse_qsl(parts.query),
            tuple((host, PORTS[scheme] if port is None else port) for host, port in others),
            _proxy(parts, [host, *(other for other, _ in others)], field, environment),
            _patience(parts, field, environment),
        )

    @property
    def secure(self) -> bool:
        """Whether the connection requires TLS."""
        return self.scheme in SECURE

    @property
    def framed(self) -> bool:
        """Whether what NATS says travels in WebSocket's frames."""
        return self.scheme in ("ws", "wss")

    @property
    def handshakes_first(self) -> bool:
        """Whether a NATS connection begins with the TLS handshake."""
        return self.scheme == "tls" and not self.upgrades

    @property
    def stays_here(self) -> bool:
        """Whether the broker is at addresses of this machine's loopback, or in this process."""
        return self.scheme == "memory" or all(is_loopback(host) for host, _ in self.places)

    def require_protection(self, field: str = "url", environment: Mapping[str, str] = os.environ) -> None:
        """Raise Refused naming ``field`` where the connection would leave this machine without TLS, and nobody has said
        that it may."""
        if self.secure or self.stays_here or environment.get(INSECURE) == "1":
            return
        secured = {"nats": "tls", "ws": "wss", "mqtt": "mqtts"}[self.scheme]
        away = next(host for host, _ in self.places if not is_loopback(host))
        raise Refused(
            "insecure", field=field, expected=f"{secured}://, since {away} is another machine", got=self.shown,
            hint=f"Give its broker TLS; or type --insecure, or set {INSECURE}=1, where nobody can read the network.",
        )  # fmt: skip

    @property
    def places(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each server."""
        return (self.host, self.port), *self.others

    @property
    def addresses(self) -> list[str]:
        """Host and port of each server, as in a URL."""
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.places]

    @property
    def shown(self) -> str:
        """The URL for a log or an error, without credentials and files."""
        return f"{self.scheme}://{','.join(self.addresses) if self.port else self.host}{self.path}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches what listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def without_login(url: str) -> str:
    """Return a URL without its login."""
    parts = urlsplit(url)
    named = {name: value for name, value in parse_qsl(parts.query) if name != _CREDENTIALS}
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=urlencode(named, safe="/")).geturl()


def with_user(url: str, user: str) -> str:
    """Return a URL without its login, with a user who has no password instead."""
    parts = urlsplit(without_login(url))
    return parts._replace(netloc=f"{user}:@{parts.netloc}").geturl()


def with_credentials(url: str, file: Path) -> str:
    """Return a URL without its login, with a file of credentials instead."""
    parts = urlsplit(without_login(url))
    named = dict(parse_qsl(parts.query)) | {_CREDENTIALS: str(file)}
    return parts._replace(query=urlencode(named, safe="/")).geturl()


def _listed(url: str) -> tuple[str, list[str]]:
    """Return the URL with the first of its hosts alone, and the others."""
    found = _AUTHORITY.match(url)
    if found is None:
        return url, []
    login, at, hosts = found[2].rpartition("@")
    first, *others = hosts.split(",")
    return f"{found[1]}{login}{at}{first}{url[found.end():]}", others


def _credentials(parts: SplitResult, field: str) -> Credentials:
    user = unquote(parts.username or "")
    file = dict(parse_qsl(parts.query)).get(_CREDENTIALS)
    if file is not None:
        if user or parts.password is not None:
            raise Refused("invalid", field=field, expected="a login or a file of credentials", got="both")
        return Credentials(file=Path(file))
    if parts.password is None and parts.scheme in NATS:
        return Credentials(token=user)
    return Credentials(user, unquote(parts.password or ""))


def _proxy(parts: SplitResult, hosts: Sequence[str], field: str, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that the URL names, or else the environment for other machines."""
    if parts.scheme not in NATS:
        return None
    if (named := dict(parse_qsl(parts.query, keep_blank_values=True)).get(_PROXY)) is not None:
        return Proxy.parse(named, f"{field}: {_PROXY}")
    everywhere = environment.get(PROXY)
    return Proxy.parse(everywhere, PROXY) if everywhere and not all(map(is_loopback, hosts)) else None


def _patience(parts: SplitResult, field: str, environment: Mapping[str, str]) -> float:
    """Return the seconds that the URL names, or else the environment."""
    named = dict(parse_qsl(parts.query, keep_blank_values=True)).get(_PATIENCE)
    given, where = (named, f"{field}: {_PATIENCE}") if named is not None else (environment.get(PATIENCE), PATIENCE)
    if not given:
        return SILENCE
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not LEAST_PATIENCE <= seconds <= MOST_PATIENCE:
        expected = f"seconds from {LEAST_PATIENCE:g} to {MOST_PATIENCE:g}"
        raise Refused("invalid", field=where, expected=expected, got=given[:40])
    return seconds


def _tls(parts: SplitResult, field: str, environment: Mapping[str, str]) -> TLS:
    """Return the TLS files named by the URL's query or else by the environment."""
    named = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme in NATS:
        named.pop(_PROXY, None)
    if parts.scheme in (*NATS, *MQTT):
        named.pop(_PATIENCE, None)
    if parts.scheme == "tls" and (given := named.pop(_HANDSHAKE, _UPGRADE)) != _UPGRADE:
        raise Refused("invalid", field=field, expected=f"{_HANDSHAKE}={_UPGRADE}, or no {_HANDSHAKE}", got=given[:80])
    taken = [*(TLS_FILES if parts.scheme in SECURE or parts.scheme == "nats" else ()),
             *((_CREDENTIALS,) if parts.scheme in (*NATS, *MQTT) else ())]  # fmt: skip
    for name, value in named.items():
        if name not in taken or not value:
            known = name in (*TLS_FILES, _CREDENTIALS)
            takes = f"only the parameters {', '.join(taken)}, each a file" if taken else "no parameters"
            raise Refused("invalid", field=field, expected=takes, got=name if known else "another one")
    found = {name: named.get(name) or environment.get(f"HELIOGRAPH_TLS_{name.upper()}") for name in TLS_FILES}
    return TLS(**{name: Path(value) for name, value in found.items() if value})


def _refused(url: str, field: str, schemes: Sequence[str]) -> Refused:
    wanted = ("nats", "mqtt") if schemes is SCHEMES else schemes[:1]
    expected = " or ".join(f"{scheme}://HOST:PORT" for scheme in wanted)
    login, at, place = url.rpartition("@")
    place = re.split(r"[?#]", place)[0] if at else url
    if not at and "[" not in place:
        place = _NO_PORT.sub(":…", re.split(r"[?#]", place)[0])  # it may be half of a login
    hint = ""
    if at and set("/?#") & set(login.partition("://")[2]):
        hint = "Write '/', '?' and '#' in a user or password as %2F, %3F and %23."
    return Refused("invalid", field=field, expected=expected, got=place or "nothing", hint=hint)
