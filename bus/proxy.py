"""An HTTP proxy on the way to a broker: the CONNECT method of RFC 9110, section 9.3.6."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from heliograph.core.errors import Refused

PROXY = "HELIOGRAPH_PROXY"
"""The environment variable with the proxy of connections that leave this machine, where their URL names none."""
MAX_HEAD = 16 * 1024
"""Bytes of a proxy's answer, at most."""


class ProxyFailed(OSError):
    """A proxy that cannot be reached, or does not lead on.

    Attributes:
        why, mend: see ``LinkTrouble``.
    """

    def __init__(self, why: str, mend: str) -> None:
        super().__init__(why)
        self.why = why
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy; neither ``repr`` nor ``shown`` has its login."""

    host: str
    port: int
    login: str = field(default="", repr=False)
    """User and password with a colon between; empty for none."""

    @classmethod
    def parse(cls, url: str, name: str) -> Proxy:
        """Parse ``http://[user:password@]host:port``. Raise Refused naming ``name``, and no secret."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme != "http" or not parts.hostname or not port or parts.path not in ("", "/") or parts.query:
            raise Refused(
                "invalid", field=name, expected="http://HOST:PORT of a proxy", got=url.rpartition("@")[2][:80],
                hint="A login before the host is percent-encoded: http://USER:PASSWORD@HOST:PORT.",
            )  # fmt: skip
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username is not None else ""
        return cls(parts.hostname, port, login)

    @property
    def shown(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def request(self, address: str) -> bytes:
        """Return the request for a connection to ``host:port``."""
        lines = [f"CONNECT {address} HTTP/1.1", f"Host: {address}"]
        if self.login:
            lines.append(f"Proxy-Authorization: Basic {base64.b64encode(self.login.encode()).decode()}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def check(self, head: bytes, address: str) -> None:
        """Raise ProxyFailed unless the proxy's answer says that the connection stands."""
        line = head.partition(b"\r\n")[0].decode("latin-1")
        words = line.split(" ", 2)
        status = words[1] if len(words) > 1 and words[0].startswith("HTTP/1.") else ""
        if status.startswith("2") and len(status) == 3:
            return
        proxy = f"the proxy {self.shown}"
        if status == "407":
            raise ProxyFailed(f"{proxy} wants a login", "Write it into the proxy's URL: http://USER:PASSWORD@HOST:PORT.")
        if status:
            said = "".join(each for each in line if each.isprintable())[:120]
            raise ProxyFailed(f"{proxy} does not lead to {address}: {said}",
                              "Let it allow CONNECT to this host and port; many allow 443 alone.")  # fmt: skip
        raise ProxyFailed(f"what listens at {self.shown} is no HTTP proxy", "Mend the proxy's address.")

    def unreachable(self, error: Exception) -> ProxyFailed:
        """Return what to raise where the proxy itself cannot be reached."""
        return ProxyFailed(f"the proxy {self.shown} cannot be reached: {str(error) or type(error).__name__}",
                           "Mend its address, or leave it out.")  # fmt: skip
