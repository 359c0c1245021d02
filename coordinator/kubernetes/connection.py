"""Connections to an API server: by ``KUBECONFIG``, or by the service account of the pod that this process runs in.

This module imports ``kubernetes.aio``, which costs 48 MB and a third of a second: import it where it is needed.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject
from kubernetes.aio.config.incluster_config import load_incluster_config
from kubernetes.aio.config.kube_config import load_kube_config

from heliograph.bus.connection_url import INSECURE, is_loopback
from heliograph.coordinator.kubernetes.api import Object
from heliograph.core.errors import Refused, Unreachable

CONNECT_SECONDS = 5.0
WAIT_SECONDS = 20.0
"""Seconds until a request has a connection, which others may use meanwhile."""
AT_ONCE = 64
"""Requests at the same time, watches included, at most."""
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
"""A peer that is gone without a word is noticed within half a minute, also by a watch on which nothing happens."""
USER_AGENT = "heliograph-operator"
_CONFIG = "KUBECONFIG"
_DEFAULT = "~/.kube/config"
_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"


class Connection:
    """Sends requests to one API server, with the login of its configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._tls = _tls_of(configuration)
        self._rest: RESTClientObject | None = None
        self._connector: aiohttp.TCPConnector | None = None

    @classmethod
    async def open(cls) -> Connection:
        """Return a connection of the environment's configuration. Raise Refused where there is none."""
        return cls(await _configuration())

    async def renew_login(self) -> None:
        """Read the configuration again: the server does not accept the login any more, or is not trusted any more.
        Where its authority, its address or the client's certificate has changed, end all connections: what is under
        way fails, and is asked again on new ones."""
        try:
            fresh = await _configuration()
        except Refused as error:
            raise Unreachable(f"the login of the API server cannot be read again: {error}") from None
        if (tls := _tls_of(fresh)) != self._tls:
            self._configuration, self._tls = fresh, tls
            await self.close()
        else:
            self._configuration.api_key = fresh.api_key
            self._configuration.refresh_api_key_hook = fresh.refresh_api_key_hook  # the former has the former token

    @asynccontextmanager
    async def request(
        self, method: str, path: str, body: Object | None, content_type: str,
        total: float | None, silence: float,
    ) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
        """Send a request, and give the answer, whose body is yet to be read.

        Args:
            total: seconds until the whole answer has come; None for no limit.
            silence: seconds without a byte from the server.

        Raises:
            Unreachable: no answer came, or it broke off.
        """
        timeout = aiohttp.ClientTimeout(
            total=total, connect=WAIT_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=silence
        )
        try:
            url, headers = self._configuration.host + path, await self._headers(content_type)
            answer = await self._connected().request(method, url, headers=headers, body=body, _request_timeout=timeout)
            response: aiohttp.ClientResponse = answer.response
            try:
                yield response
            finally:
                if response.content.at_eof():
                    response.release()
                else:
                    response.close()  # the rest of the answer is in the way of another request
        except TimeoutError:
            raise Unreachable(f"{self._place()} does not answer in time") from None
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
                await self.renew_login()  # for the next attempt: certificates may have been renewed
            raise Unreachable(f"{self._place()} cannot be reached: {_cause(error)}") from None

    async def close(self) -> None:
        rest, connector = self._rest, self._connector
        self._rest = self._connector = None  # at once: another request makes its own
        if rest is not None:
            await rest.close()
        if connector is not None:
            await connector.close()

    def _connected(self) -> RESTClientObject:
        if self._rest is None:
            # the library's own connector keeps connections for two hours to a peer that is gone
            self._rest = RESTClientObject(self._configuration)
            self._connector = aiohttp.TCPConnector(limit=AT_ONCE, ssl=self._rest.ssl_context, socket_factory=_socket)
            self._configuration.client_session_kwargs = {
                "connector": self._connector, "cookie_jar": aiohttp.DummyCookieJar(),
            }  # fmt: skip
        return self._rest

    async def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": USER_AGENT}
        try:
            for setting in (await self._configuration.auth_settings()).values():
                if setting["in"] == "header" and setting["value"]:
                    headers[setting["key"]] = setting["value"]
        except OSError:
            raise Unreachable("the token of the pod's service account cannot be read") from None
        return headers

    def _place(self) -> str:
        parts = urlsplit(self._configuration.host)
        return f"the API server {parts.hostname}:{parts.port or 443}"


def _tls_of(configuration: Configuration) -> tuple[str, bool, tuple[bytes, ...]]:
    """Return which server a configuration trusts, and the certificate that it shows: the contents of files, which may
    change under their names."""
    files = (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    return configuration.host, bool(configuration.verify_ssl), tuple(_content(each) for each in files)


def _content(file: str | None) -> bytes:
    try:
        return Path(file).read_bytes() if file else b""
    except OSError:
        return b""


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket that notices a dead peer."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


async def _configuration() -> Configuration:
    """Return the configuration of the environment, whose messages of the library are left out: they may hold tokens."""
    found = Configuration()
    named = os.environ.get(_CONFIG, "")
    file = named or str(Path(_DEFAULT).expanduser())
    in_cluster = not named and bool(os.environ.get(_IN_CLUSTER))
    source = "the pod's service account" if in_cluster else f"the kubeconfig {file}"
    try:
        if in_cluster:
            load_incluster_config(client_configuration=found)
        elif not all(Path(part).expanduser().is_file() for part in file.split(os.pathsep) if part):
            raise Refused("invalid", topic=source, expected="a file, or a pod with a service account",
                          hint=f"Set {_CONFIG}, or run in a pod with automountServiceAccountToken: true")  # fmt: skip
        else:
            await load_kube_config(config_file=file, client_configuration=found, persist_config=False)
    except Refused:
        raise
    except Exception as error:  # the library raises what it meets: KeyError, TypeError, yaml's, its own
        raise Refused("invalid", topic=source, expected="a configuration that reaches an API server",
                      got=type(error).__name__, hint="Try it: kubectl version") from None  # fmt: skip
    _check_secure(found, source)
    return found


def _check_secure(configuration: Configuration, source: str) -> None:
    """Raise Refused where a login would cross the network for everyone to read."""
    parts = urlsplit(configuration.host)
    away = not is_loopback(parts.hostname or "")
    if away and (parts.scheme != "https" or not configuration.verify_ssl) and os.environ.get(INSECURE) != "1":
        got = "insecure-skip-tls-verify" if parts.scheme == "https" else f"{parts.scheme}://"
        raise Refused("insecure", topic=source, field="clusters.cluster.server", got=got,
                      expected="https:// with the API server's certificate, since it is another machine",
                      hint=f"Set certificate-authority; or accept the risk: {INSECURE}=1")  # fmt: skip


def _cause(error: Exception) -> str:
    """Return why a connection failed, in the system's words: those of aiohttp name addresses twice."""
    inner = error.__cause__ if isinstance(error.__cause__, OSError) else error
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(error)[:200] or type(error).__name__

