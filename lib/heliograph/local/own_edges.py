"""The edges of a cluster on this machine: enrolled ones, whose login and key lie in their own directories.

They need no invitation, since whoever starts the cluster names them and has the authority. From then on they are edges
like those of other machines: their agents renew their logins, and ``heliograph edge revoke`` takes one away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from heliograph.bus.connection_url import TLS, with_credentials
from heliograph.bus.contract.enrolment_requests import trust_tag
from heliograph.core.private_files import make_private
from heliograph.core.world import World
from heliograph.enrolment import Enrolment
from heliograph.local.cluster_node import Node
from heliograph.local.document_keys import DocumentKeys
from heliograph.local.nats_server import Broker
from heliograph.login_files import AUTHORITIES, LOGIN, write_trusted


class OwnEdges:
    """The nodes of a cluster's edges.

    Args:
        seconds: how long a login is good; it is written anew at each start.
    """

    def __init__(
        self, nodes: Sequence[Node], broker: Broker, document_keys: DocumentKeys, seconds: int, world: World
    ) -> None:
        self._nodes = nodes
        self._broker = broker
        self._document_keys = document_keys
        self._seconds = seconds
        self._world = world
        self._reset: list[str] = []

    def find_reset(self) -> None:
        """Note the edges whose directory is there without a login: they were of this cluster, and get another key. To
        be called before the nodes' directories are made."""
        self._reset = [node.name for node in self._nodes if node.directory.is_dir() and not _has_login(node)]

    def enroll(self) -> None:
        """Write the logins, and note their keys in the authority, before the broker starts. Raise Refused where another
        node has enrolled by the name of one."""
        self._document_keys.write(self._world)
        authorities, cloud_keys = self._authorities(), self._document_keys.public.read_text()
        for node in self._nodes:
            make_private(node.state)
            write_trusted(make_private(node.identity), authorities, cloud_keys)
        expires = int(self._world.now()) + self._seconds
        self._broker.authority.enroll_here({node.name: node.identity / LOGIN for node in self._nodes}, expires,
                                           [trust_tag(authorities, cloud_keys)], self._reset)  # fmt: skip

    def write_addresses(self) -> None:
        """Write where each edge reaches the cloud, once the broker has its ports."""
        for node in self._nodes:
            Enrolment(node.name, self.url(node)).write(node.identity)

    def url(self, node: Node) -> str:
        """Return the NATS URL with the login of an edge, and its own copy of the authorities."""
        tls = self._broker.tls
        files = replace(tls.own, ca=node.identity / AUTHORITIES) if tls is not None else TLS()
        return with_credentials(f"{self._broker.url().partition('?')[0]}{files.query}", node.identity / LOGIN)

    def _authorities(self) -> str:
        tls = self._broker.tls
        return tls.own.ca.read_text() if tls is not None and tls.own.ca is not None else ""


def _has_login(node: Node) -> bool:
    return (node.identity / LOGIN).exists()
