"""The coordinator's part of the kind Edge: it is made by its report or when it enrols, and deleted by a request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract.enrolment_requests import Revoke
from heliograph.bus.contract.resources import Edge, Resource
from heliograph.coordinator.feature import Feature
from heliograph.coordinator.identity.controller import GONE_WITHIN, issuer_of
from heliograph.core.errors import Refused


class EdgeFeature(Feature[Edge]):
    """Refuses to delete an edge that is online: it would be made anew at once. Revokes what has enrolled."""

    def may_delete(self, other: Resource, topic: str) -> None:
        if isinstance(other, Edge) and self.context.view().online(other.name):
            raise Refused("online", topic=topic, field="name", expected="an edge that is offline", got=other.name,
                          hint="Stop its agent first; an agent that returns makes its edge anew.")  # fmt: skip

    async def answer(
        self, verb: str, body: BaseModel, resource: Edge | None, caller: str
    ) -> BaseModel | Mapping[str, Any]:
        if not isinstance(body, Revoke) or resource is None:
            return await super().answer(verb, body, resource, caller)
        await issuer_of(self).revoke_edge(resource.name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_WITHIN):
                await self.context.offline(resource.name)
        await self.context.remove(resource)
        self.context.out(f"edge {resource.name} is revoked{f' by {caller}' if caller else ''}")
        return resource
