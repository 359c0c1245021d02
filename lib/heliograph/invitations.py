"""Invite nodes and users: the key of an invitation is made here, and its private half goes into the token alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heliograph.bus.connection_url import NATS, ConnectionUrl
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.identity.invitation_token import InvitationToken
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.world import World
from heliograph.incremental.loop import seconds as seconds_of


async def invite(
    client: AsyncClient, name: str, *, seconds: int = 900, nodes: int = 1, project: str = "",
    address: str | None = None,
) -> InvitationToken:
    """Make an invitation, in place of an earlier one of that name, and return its token.

    Args:
        seconds: how long it is good.
        nodes: how many may enrol by it.
        project: the project that the nodes serve; empty for all.
        address: URL by which nodes reach the broker; by default the client's own.

    Raises:
        Refused: where the coordinator refuses, or the address is none of a NATS broker.
    """
    where, authorities = broker_for(client, address)
    key = KeyPair("user", World().new_secret())
    document = {"apiVersion": "edgeai.io/v1alpha1", "kind": "Invitation", "metadata": {"name": name},
                "spec": {"key": key.public, "seconds": seconds, "nodes": nodes, "project": project}}  # fmt: skip
    try:
        made = await client.resources("invitations").create(document)
    except Refused as error:
        if error.code != "exists":
            raise
        await client.resources("invitations").delete(name)
        made = await client.resources("invitations").create(document)
    expires = int(seconds_of(made["metadata"]["creationTimestamp"])) + seconds
    return InvitationToken(where, authorities, name, expires, key)


async def invite_user(
    client: AsyncClient, name: str, *, scope: str, project: str, seconds: int = 900, address: str | None = None
) -> InvitationToken:
    """Invite a user, or one that has a login to make another key, grant it a scope, and return the token."""
    where, authorities = broker_for(client, address)
    key, expires = KeyPair("user", World().new_secret()), int(World().now()) + seconds
    await change_user(client, name, {project: scope}, {"key": key.public, "expires": expires})
    return InvitationToken(where, authorities, name, expires, key, "user")


async def change_user(
    client: AsyncClient, name: str, scopes: Mapping[str, str], invitation: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Grant a user a scope in each of these projects, ``none`` to take one away; and invite it. Return the user.

    Raises:
        Refused: where the coordinator refuses.
    """
    users = client.resources("users")
    try:
        found = await users.get(name)
    except Refused as error:
        if error.code != "not-found":
            raise
        found = {}
    spec = dict(found.get("spec", {}))
    granted = {each["project"]: each["scope"] for each in spec.get("grants", ())} | dict(scopes)
    grants = [{"project": project, "scope": scope} for project, scope in granted.items() if scope != "none"]
    document = {"apiVersion": "edgeai.io/v1alpha1", "kind": "User", "spec": {**spec, "grants": grants},
                "metadata": found.get("metadata", {"name": name})}  # fmt: skip
    if invitation is not None:
        document["spec"]["invitation"] = dict(invitation)
    return await (users.update(document) if found else users.create(document))


def broker_for(client: AsyncClient, address: str | None) -> tuple[str, str]:
    """Return the broker's URL without a login, and the certificates in PEM by which to know it.

    Args:
        address: URL by which others reach the broker; by default the client's own.

    Raises:
        Refused: where the address is none of a NATS broker.
    """
    own = ConnectionUrl.parse(client.server.url)
    url = ConnectionUrl.parse(address, "address", schemes=NATS) if address is not None else own
    if url.scheme not in NATS:
        raise Refused("invalid", field="address", expected=f"a URL that begins with {' or '.join(NATS)}",
                      got=url.shown, hint="Name the broker for nodes: --address tls://HOST:4222.")  # fmt: skip
    authorities = own.tls.ca or url.tls.ca
    return url.shown, authorities.read_text() if authorities and url.secure else ""
