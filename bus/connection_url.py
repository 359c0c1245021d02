"""Connection URLs: where a broker is, who logs in there, and by which TLS files. Every client reads them here.

    scheme://[user[:password]@]host[:port][?ca=FILE&certificate=FILE&key=FILE]

``tls``, ``wss`` and ``mqtts`` speak TLS or nothing; ``nats`` goes over to TLS where the server requires it. TLS files
that the URL does not name come from the environment: ``HELIOGRAPH_TLS_CA``, ``…_CERTIFICATE``, ``…_KEY``. On NATS a
user without a password is a token, as in the NATS tools. Special characters of a user or password are percent-encoded
(RFC 3986); an IPv6 address stands in brackets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from heliograph.core.errors import Refused

if TYPE_CHECKING:
    import ssl

PORTS = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443, "mqtt": 1883, "mqtts": 8883, "memory": 0}
"""The port of each scheme where the URL names none."""
NATS = ("nats", "tls", "ws", "wss")
MQTT = ("mqtt", "mqtts")
SECURE = ("tls", "wss", "mqtts")
SCHEMES = (*NATS, *MQTT, "memory")
_TLS_FILES = ("ca", "certificate", "key")
_NO_PORT = re.compile(r":(?!//)(?!\d{1,5}(?:/|$))[^/]*")


@dataclass(frozen=True, slots=True)
class TLS:
    """The PEM files of a TLS connection.

    Attributes:
        ca: certificates of the authorities that are trusted; None: those of the system.
        certificate: this client's certificate, for a broker that asks for one.
        key: the private key of ``certificate``; None: it lies in the same file.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """A context that verifies the broker's certificate and name. Raises Refused where a file is unusable."""
        import ssl

        for name in _TLS_FILES:
            file: Path | None = getattr(self, name)
            if file is not None and not os.access(file, os.R_OK):
                raise Refused("invalid", field=f"TLS {name}", expected="a readable PEM file", got=str(file))
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except ssl.SSLError as error:
            raise self._unusable("ca", error) from None
        if self.certificate is not None:
            try:
                # an empty passphrase: an encrypted key is an error, and asks nobody at the terminal
                context.load_cert_chain(self.certificate, self.key, password=lambda: b"")
            except ssl.SSLError as error:
                raise self._unusable("certificate", error) from None
        return context

    def _unusable(self, name: str, error: Exception) -> Refused:
        expected = f"PEM that OpenSSL reads ({str(error)[:80]})"
        return Refused("invalid", field=f"TLS {name}", expected=expected, got=str(getattr(self, name)))


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who logs in. All empty: nobody does, the connection is anonymous."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ConnectionUrl:
    """A URL of a broker, taken apart. Neither ``repr`` nor ``shown`` holds a secret."""

    scheme: str
    host: str
    port: int
    path: str = ""
    credentials: Credentials = Credentials()
    tls: TLS = TLS()

    @classmethod
    def parse(
        cls,
        url: str,
        field: str = "url",
        *,
        schemes: Sequence[str] = SCHEMES,
        environment: Mapping[str, str] = os.environ,
    ) -> ConnectionUrl:
        """Takes ``url`` apart. Raises Refused naming ``field``, and no secret, where no broker can be there.

        Args:
            schemes: those that are accepted.
            environment: says which TLS files are used where the URL does not.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # a port that is none, or brackets that do not close
            raise _refused(url, field, schemes) from None
        scheme, host = parts.scheme, parts.hostname
        behind = parts.path + parts.query + parts.fragment  # an '@' there: the login's own '/', '?' or '#' cut it off
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
            _credentials(parts),
            _tls(parts, field, environment),
        )

    @property
    def secure(self) -> bool:
        """Whether the connection speaks TLS or does not come about."""
        return self.scheme in SECURE

    @property
    def address(self) -> str:
        """Host and port, as they stand in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def shown(self) -> str:
        """Fit for a log or an error: no credentials, no files."""
        return f"{self.scheme}://{self.address if self.port else self.host}{self.path}"


def _credentials(parts: SplitResult) -> Credentials:
    user = unquote(parts.username or "")
    if parts.password is None and parts.scheme in NATS:
        return Credentials(token=user)
    return Credentials(user, unquote(parts.password or ""))


def _tls(parts: SplitResult, field: str, environment: Mapping[str, str]) -> TLS:
    """The TLS files that the URL's query names, else those of the environment."""
    named = dict(parse_qsl(parts.query, keep_blank_values=True))
    takes_files = parts.scheme in SECURE or parts.scheme == "nats"
    for name, value in named.items():
        if name not in _TLS_FILES or not takes_files or not value:
            takes = f"no parameters but {', '.join(_TLS_FILES)}, each a file, where the scheme speaks TLS"
            raise Refused("invalid", field=field, expected=takes, got=name if name in _TLS_FILES else "another one")
    found = {name: named.get(name) or environment.get(f"HELIOGRAPH_TLS_{name.upper()}") for name in _TLS_FILES}
    return TLS(**{name: Path(value) for name, value in found.items() if value})


def _refused(url: str, field: str, schemes: Sequence[str]) -> Refused:
    wanted = ("nats", "mqtt") if schemes is SCHEMES else schemes[:1]
    expected = " or ".join(f"{scheme}://HOST:PORT" for scheme in wanted)
    login, at, place = url.rpartition("@")
    place = re.split(r"[?#]", place)[0] if at else url
    if not at and "[" not in place:
        place = _NO_PORT.sub(":…", re.split(r"[?#]", place)[0])  # what stands there may be half of a login
    hint = ""
    if at and set("/?#") & set(login.partition("://")[2]):
        hint = "Write '/', '?' and '#' in a user or password as %2F, %3F and %23."
    return Refused("invalid", field=field, expected=expected, got=place or "nothing", hint=hint)
