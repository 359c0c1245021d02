"""The coordinator's part of the kind Invitation: nodes enrol by one, and renew the login that they got."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract.enrolment_requests import Enroll, IssuedLogin, Renew, RevokedGroup, RevokeGroup
from heliograph.bus.contract.permissions import agent_of
from heliograph.bus.contract.resources import Edge, Invitation, Metadata
from heliograph.bus.contract.resources.edge import EdgeStatus
from heliograph.bus.nats.authority_keys import Origin
from heliograph.coordinator.feature import Feature
from heliograph.coordinator.identity.admission import admit, renewing, withdrawn
from heliograph.coordinator.identity.issuer import Issuer, group_of
from heliograph.core.errors import Conflict, Refused

GONE_WITHIN = 5.0
"""Seconds in which the broker says that a revoked edge is gone."""
MOST_REVOKED = 100
"""Edges that one request revokes: the answer comes before its sender gives up."""


class InvitationFeature(Feature[Invitation]):
    """Answers nodes that have no login yet, or one that expired."""

    async def answer(
        self, verb: str, body: BaseModel, resource: Invitation | None, caller: str
    ) -> BaseModel | Mapping[str, Any]:
        match body:
            case Enroll():
                return await self._enroll(body)
            case Renew():
                return await self._renew(body, agent_of(caller))
            case RevokeGroup():
                return await self._revoke_group(body)
        return await super().answer(verb, body, resource, caller)

    def validate(self, resource: Invitation, topic: str) -> None:
        issuer_of(self)

    def may_change(self, known: Invitation, wanted: Invitation, topic: str) -> None:
        if known.spec != wanted.spec:
            raise Refused("immutable", topic=topic, field="spec", expected="the invitation as it was made",
                          got="another", hint="Delete it, and invite again.")  # fmt: skip

    async def _enroll(self, asked: Enroll) -> IssuedLogin:
        issuer, now = issuer_of(self), self.context.port.world.now()
        authority = await issuer.authority()
        known, revoked = authority.edges.holders, authority.edges.revoked(asked.edge)
        stepped = await self.context.step(Invitation, asked.name, lambda each: admit(each, asked, known, revoked, now))
        if stepped is None:
            raise withdrawn(asked.name)
        invitation = stepped[1]

        def check_open() -> None:
            """Raise Refused where the invitation was withdrawn meanwhile: whoever revokes its group would miss it."""
            newest = self.context.store.get(Invitation, invitation.name)
            if newest is None or newest.metadata.uid != invitation.metadata.uid:
                raise withdrawn(invitation.name)

        login = await issuer.enroll_edge(asked.edge, asked.key, Origin(invitation.name, asked.node), check_open)
        if self.context.store.get(Edge, asked.edge) is None:
            try:
                metadata = Metadata(name=asked.edge, namespace=invitation.project)
                status = EdgeStatus(invitation=invitation.name, node=asked.node)
                edge = await self.context.store.create(Edge(metadata=metadata, status=status))
                self.context.show(edge)
            except Conflict:  # its report came meanwhile
                pass
        self.context.out(f"edge {asked.edge} has enrolled by invitation {asked.name}")
        return login

    async def _renew(self, asked: Renew, asker: str) -> IssuedLogin:
        """Return the longer login of an edge.

        Args:
            asker: the edge that asks by its own account; empty for one that has no login, or an expired one.
        """
        issuer = issuer_of(self)
        authority = await issuer.authority()
        edge = renewing(asked, agent_of, authority.edges, self.context.port.world.now())
        if asker not in ("", edge):
            raise Refused("forbidden", field="token", expected=f"the login of edge {asker}, which asks",
                          got=f"that of edge {edge}")  # fmt: skip
        return await issuer.login_of_edge(authority, edge)

    async def _revoke_group(self, asked: RevokeGroup) -> RevokedGroup:
        issuer, invitation = issuer_of(self), self.context.store.get(Invitation, asked.name)
        group = group_of(await issuer.authority(), asked.name)
        if invitation is None and not group:
            raise Refused("not-found", field="name", expected="an invitation, or a group whose edges have enrolled by"
                          " one and have logins", got=asked.name)  # fmt: skip
        withdrawn = invitation is not None
        if asked.dry_run:
            return RevokedGroup(name=asked.name, edges=group, withdrawn=withdrawn)
        if invitation is not None:  # first: nobody enrols by it from now on
            await self.context.remove(invitation)
        revoked, left = await issuer.revoke_group(asked.name, MOST_REVOKED)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_WITHIN):
                await asyncio.gather(*map(self.context.offline, revoked))
        # one that was deleted before is forgotten too: its presence may be about to make it anew
        edges = (self.context.store.get(Edge, name) or Edge(metadata=Metadata(name=name)) for name in revoked)
        await asyncio.gather(*map(self.context.remove, edges))
        for name in revoked:
            self.context.out(f"edge {name} is revoked with group {asked.name}")
        return RevokedGroup(name=asked.name, edges=revoked, left=left, withdrawn=withdrawn)


def issuer_of(feature: Feature[Any]) -> Issuer:
    """Return who signs logins. Raise Refused where this coordinator has no authority."""
    if feature.context.issuer is None:
        raise Refused("no-authority", expected="a coordinator with an authority", got="one without",
                      hint="Start it with --authority DIR, the authority of its broker.")  # fmt: skip
    return feature.context.issuer
