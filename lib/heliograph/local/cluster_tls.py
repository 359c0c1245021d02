"""Where the cloud's brokers of a local cluster listen, and their certificates, which the cluster makes and renews."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from heliograph.bus.connection_url import INSECURE, TLS, is_loopback
from heliograph.core.world import World
from heliograph.local.broker_tls import BrokerTls, is_any
from heliograph.local.certificates import Certificates

CHECKED_EVERY = 3600.0
"""Seconds between two looks at what is to be renewed."""
_HERE = ("localhost", "127.0.0.1", "::1")
_OWN = "cluster"


@dataclass(frozen=True)
class Listening:
    """Where the cloud's brokers listen, and by which names.

    Attributes:
        host: the address; an address that other machines reach has TLS, unless ``HELIOGRAPH_INSECURE`` is ``1``.
        names: names and addresses in the brokers' certificate, the one for URLs first; by default the address and the
            machine's host name. With names there is TLS on every address.
        client_certificates: whether clients need a certificate beside their login.
        new_authority: whether to make another certificate authority beside the present one.
    """

    host: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    client_certificates: bool = False
    new_authority: bool = False

    @property
    def tls(self) -> bool:
        """Whether the brokers speak TLS."""
        if self.names or self.client_certificates:
            return True
        return not is_loopback(self.host) and os.environ.get(INSECURE) != "1"

    @property
    def public_names(self) -> tuple[str, ...]:
        """Names by which clients reach the brokers, the one for URLs first."""
        own = () if is_any(self.host) else (self.host,)
        return self.names or (*own, *(() if is_loopback(self.host) else (socket.gethostname(),)))


class ClusterTls:
    """The certificates of a cluster's brokers and of their clients.

    Args:
        directory: the directory of the authority.
        carried: whether the authority comes from another machine.
    """

    def __init__(self, directory: Path, listening: Listening, world: World, *, carried: bool = False) -> None:
        names = listening.public_names
        self.certificates = Certificates(directory, (*names, *_HERE), world, carried=carried)
        own = self.certificates.client(_OWN) if listening.client_certificates else TLS(self.certificates.ca)
        self.broker = BrokerTls(
            self.certificates.server, self.certificates.server_key, own, names[0], listening.client_certificates
        )  # fmt: skip
        self._new_authority = listening.new_authority
        self._world = world

    async def start(self) -> None:
        """Make what is missing. Raise Refused where a name cannot stand in a certificate."""
        await self._world.in_thread(self.certificates.renew)
        if self._new_authority:
            await self._world.in_thread(self.certificates.add_authority)

    def files_of(self, user: str) -> TLS:
        """Return the files with which a user's clients connect."""
        if not self.broker.verify:
            return TLS(self.certificates.ca)
        files = self.certificates.client(f"user-{user}")
        self.certificates.renew()
        return files

    async def keep(self, renewed: Callable[[], None]) -> None:
        """Renew what is to end soon, for ever; call ``renewed`` where a file has changed."""
        while True:
            await self._world.sleep(CHECKED_EVERY)
            await self.renew(renewed)

    async def renew(self, renewed: Callable[[], None]) -> None:
        """Renew what is to end soon; call ``renewed`` where a file has changed."""
        if await self._world.in_thread(partial(self.certificates.renew)):
            renewed()
