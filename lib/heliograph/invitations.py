"""Invite nodes: the key of an invitation is made here, and its private half goes into the token alone."""

from __future__ import annotations

from heliograph.bus.connection_url import NATS, ConnectionUrl
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.identity.invitation_token import InvitationToken
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.world import World
from heliograph.incremental.loop import seconds as seconds_of


async def invite(
    client: AsyncClient, name: str, *, seconds: int = 900, nodes: int = 1, address: str | None = None
) -> InvitationToken:
    """Make an invitation, in place of an earlier one of that name, and return its token.

    Args:
        seconds: how long it is good.
        nodes: how many may enrol by it.
        address: URL by which nodes reach the broker; by default the client's own.

    Raises:
        Refused: where the coordinator refuses, or the address is none of a NATS broker.
    """
    own = ConnectionUrl.parse(client.server.url)
    url = ConnectionUrl.parse(address, "address", schemes=NATS) if address is not None else own
    if url.scheme not in NATS:
        raise Refused("invalid", field="address", expected=f"a URL that begins with {' or '.join(NATS)}",
                      got=url.shown, hint="Name the broker for nodes: --address tls://HOST:4222.")  # fmt: skip
    authorities = own.tls.ca or url.tls.ca
    key = KeyPair("user", World().new_secret())
    document = {"apiVersion": "edgeai.io/v1alpha1", "kind": "Invitation", "metadata": {"name": name},
                "spec": {"key": key.public, "seconds": seconds, "nodes": nodes}}  # fmt: skip
    try:
        made = await client.resources("invitations").create(document)
    except Refused as error:
        if error.code != "exists":
            raise
        await client.resources("invitations").delete(name)
        made = await client.resources("invitations").create(document)
    expires = int(seconds_of(made["metadata"]["creationTimestamp"])) + seconds
    return InvitationToken(url.shown, authorities.read_text() if authorities and url.secure else "", name, expires, key)
