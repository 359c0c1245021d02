"""TLS and quotas of brokers that we start, and what they need to listen where other machines reach them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heliograph.bus.connection_url import INSECURE, TLS, is_loopback
from heliograph.core.errors import Refused

HANDSHAKE_SECONDS, LOGIN_SECONDS = 20, 20
"""Seconds that a client has for them: on a link with a round trip of 6 s each step takes as long."""
CONNECTIONS_PER_SECOND = 200
"""New connections that nats-server takes in a second: a handshake costs half a millisecond of its CPU."""
_ANY = ("0.0.0.0", "::")


@dataclass(frozen=True)
class BrokerTls:
    """The TLS of one broker.

    Attributes:
        certificate, key: the server's files.
        own: files with which this cluster's own processes connect: the authorities, and a certificate where the broker
            asks for one.
        name: host name or address in the URLs of clients on other machines.
        verify: whether a client needs a certificate of one of the authorities.
    """

    certificate: Path
    key: Path
    own: TLS
    name: str
    verify: bool = False

    def of_nats_server(self) -> dict[str, object]:
        """Return the block ``tls`` of a listener of nats-server."""
        files: dict[str, object] = {"cert_file": str(self.certificate), "key_file": str(self.key)}
        if self.verify:
            files |= {"ca_file": str(self.own.ca), "verify": True}
        return files | {"min_version": "1.3", "timeout": HANDSHAKE_SECONDS}

    def of_mosquitto(self) -> tuple[str, ...]:
        """Return the lines of a listener of mosquitto; 1.3 is the least version that it takes."""
        lines = (f"certfile {self.certificate}", f"keyfile {self.key}", "tls_version tlsv1.3")
        return (*lines, f"cafile {self.own.ca}", "require_certificate true") if self.verify else lines


def protected(tree: Mapping[str, object], tls: BrokerTls | None) -> dict[str, object]:
    """Return nats-server's configuration with bounds for newcomers, and with TLS on each of its listeners."""
    found = dict(tree) | {"authorization": {"timeout": LOGIN_SECONDS}}
    if tls is None:
        return found
    block = tls.of_nats_server()
    for name in ("mqtt", "websocket", "leafnodes"):
        if isinstance(listener := found.get(name), dict):
            found[name] = {key: value for key, value in listener.items() if key != "no_tls"} | {"tls": block}
    found["tls"] = block | {"handshake_first": True, "connection_rate_limit": CONNECTIONS_PER_SECOND}
    return found


def is_any(host: str) -> bool:
    """Return whether it listens at all of the machine's addresses."""
    return host in _ANY


def connected_host(host: str) -> str:
    """Return where this machine's own processes reach what listens at ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def require_protected(host: str, tls: BrokerTls | None, authenticated: bool) -> None:
    """Raise Refused where other machines would reach a broker without TLS or without logins, and nobody has said that
    they may."""
    if is_loopback(host) or os.environ.get(INSECURE) == "1":
        return
    lacking = [what for what, there in (("TLS", tls is not None), ("logins", authenticated)) if not there]
    if lacking:
        raise Refused(
            "insecure", field="host", expected="127.0.0.1, or TLS and logins", got=f"{host} without {lacking[0]}",
            hint=f"Give the broker both; or type --insecure, or set {INSECURE}=1, where nobody can reach it.",
        )  # fmt: skip
