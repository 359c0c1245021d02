"""The coordinator's part of the kind User: who may log in, by an invitation, and whose login ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract.enrolment_requests import EnrollUser, IssuedLogin, IssuedToken, Renew, TokenQuery
from heliograph.bus.contract.resources import Edge, Grant, Metadata, User, UserSpec
from heliograph.coordinator.feature import Feature
from heliograph.coordinator.identity.admission import renewing
from heliograph.coordinator.identity.controller import issuer_of
from heliograph.coordinator.identity.user_admission import admit_user, check_name
from heliograph.core.errors import Refused


class UserFeature(Feature[User]):
    """Answers users that have no login yet, or one that expires. A user that is deleted loses its login."""

    async def answer(
        self, verb: str, body: BaseModel, resource: User | None, caller: str
    ) -> BaseModel | Mapping[str, Any]:
        match body:
            case EnrollUser():
                return await self._enroll(body)
            case Renew():
                return await self._renew(body)
            case TokenQuery():
                return await self._token(body, caller)
        return await super().answer(verb, body, resource, caller)

    def validate(self, resource: User, topic: str) -> None:
        check_name(resource.name, self.context.store.names(Edge), topic)
        if resource.spec.invitation is not None:
            issuer_of(self)

    async def begin(self) -> None:
        """Show the logins of users that were made with the cluster: each gets what such a login may do."""
        if self.context.issuer is None:
            return
        authority = await self.context.issuer.authority()
        grants = [Grant(project=project, scope=scope) for project, scope in self.context.unnamed.items()]
        for name in authority.made_users:
            if self.context.store.get(User, name) is None:
                user = User(metadata=Metadata(name=name), spec=UserSpec(grants=grants))
                self.context.show(await self.context.store.create(user))

    async def removed(self, resource: User) -> None:
        if self.context.issuer is not None:
            await self.context.issuer.revoke_user(resource.name)
            self.context.out(f"user {resource.name} has no login any more")

    async def _enroll(self, asked: EnrollUser) -> IssuedLogin:
        issuer, now = issuer_of(self), self.context.port.world.now()
        authority = await issuer.authority()
        if authority.issues(asked.name):
            raise Refused("exists", field="name", expected="a name that no login of the cluster's own has",
                          got=asked.name)  # fmt: skip
        revoked = authority.users.revoked(asked.name)
        await self.context.step(User, asked.name, lambda user: admit_user(user, asked, revoked, now))
        login = await issuer.enroll_user(asked.name, asked.key)
        self.context.out(f"user {asked.name} has enrolled")
        return login

    async def _renew(self, asked: Renew) -> IssuedLogin:
        issuer = issuer_of(self)
        authority = await issuer.authority()
        user = renewing(asked, str, authority.users, self.context.port.world.now())
        return await issuer.login_of_user(authority, user)

    async def _token(self, asked: TokenQuery, caller: str) -> IssuedToken:
        issuer = issuer_of(self)
        authority = await issuer.authority()
        if caller not in authority.users.holders:
            raise Refused("not-enrolled", field="caller", got=caller or "nobody in particular",
                          expected="a user that has enrolled", hint="The login of a cluster's own user has a password"
                          " for MQTT already: see the files that 'heliograph up' names.")  # fmt: skip
        return await issuer.token_of_user(caller, asked.seconds)
