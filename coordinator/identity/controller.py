"""The coordinator's part of the kind Invitation: nodes enrol by one, and renew the login that they got."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract.enrolment_requests import Enroll, IssuedLogin, Renew
from heliograph.bus.contract.permissions import agent_of
from heliograph.bus.contract.resources import Edge, Invitation, Metadata
from heliograph.coordinator.feature import Feature
from heliograph.coordinator.identity.admission import admit, renewing
from heliograph.coordinator.identity.issuer import Issuer
from heliograph.core.errors import Conflict, Refused


class InvitationFeature(Feature[Invitation]):
    """Answers nodes that have no login yet, or one that expired."""

    async def answer(
        self, verb: str, body: BaseModel, resource: Invitation | None, caller: str
    ) -> BaseModel | Mapping[str, Any]:
        match body:
            case Enroll():
                return await self._enroll(body)
            case Renew():
                return await self._renew(body)
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
        assert stepped is not None  # the request found it
        invitation = stepped[1]
        login = await issuer.enroll_edge(asked.edge, asked.key)
        if self.context.store.get(Edge, asked.edge) is None:
            try:
                metadata = Metadata(name=asked.edge, namespace=invitation.project)
                edge = await self.context.store.create(Edge(metadata=metadata))
                self.context.show(edge)
            except Conflict:  # its report came meanwhile
                pass
        self.context.out(f"edge {asked.edge} has enrolled by invitation {asked.name}")
        return login

    async def _renew(self, asked: Renew) -> IssuedLogin:
        issuer = issuer_of(self)
        authority = await issuer.authority()
        edge = renewing(asked, agent_of, authority.edges, self.context.port.world.now())
        return await issuer.login_of_edge(authority, edge)


def issuer_of(feature: Feature[Any]) -> Issuer:
    """Return who signs logins. Raise Refused where this coordinator has no authority."""
    if feature.context.issuer is None:
        raise Refused("no-authority", expected="a coordinator with an authority", got="one without",
                      hint="Start it with --authority DIR, the authority of its broker.")  # fmt: skip
    return feature.context.issuer
