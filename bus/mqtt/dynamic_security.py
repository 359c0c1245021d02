"""mosquitto's dynamic security (2.0 and later): logins and roles that change while the broker runs.

Its plugin takes commands on ``$CONTROL/dynamic-security/v1`` and answers beside it; see mosquitto's own documentation.
Whoever may publish there decides about every login of the broker.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from heliograph.bus.connection_url import ConnectionUrl
from heliograph.bus.mqtt.bus import MqttBus
from heliograph.core.errors import Refused, Unreachable
from heliograph.core.world import World

_ROOT, _TOPIC = "$CONTROL", "dynamic-security/v1"
_TIMEOUT = 5.0
_NOT_THERE = ("client not found", "role not found")
_THERE = ("client already exists", "role already exists")


class DynamicSecurity:
    """Sends commands to the plugin."""

    def __init__(self, bus: MqttBus, answers: AsyncIterator[Any], world: World) -> None:
        self._bus = bus
        self._answers = answers
        self._world = world

    async def add(
        self, name: str, password: str, role: str, publish: Iterable[str], subscribe: Iterable[str]
    ) -> None:
        """Make a login with a role of its own. Raise Refused if there is one of that name."""
        rights = [{"acltype": "publishClientSend", "topic": topic, "allow": True} for topic in publish]
        rights += [{"acltype": "subscribePattern", "topic": topic, "allow": True} for topic in subscribe]
        await self._run({"command": "createClient", "username": name, "password": password}, name)
        await self._run({"command": "deleteRole", "rolename": role}, name, lacking=True)
        await self._run({"command": "createRole", "rolename": role, "acls": rights}, name)
        await self._run({"command": "addClientRole", "username": name, "rolename": role}, name)

    async def remove(self, name: str, role: str) -> None:
        """Delete a login and its role; its connections end. Raise Refused if there is none of that name with it."""
        if role not in await self.roles():
            raise _refused("not-found", name, "a login that 'device add' has made", "none")
        await self._run({"command": "deleteClient", "username": name}, name, lacking=True)
        await self._run({"command": "deleteRole", "rolename": role}, name, lacking=True)

    async def roles(self) -> list[str]:
        """Return the names of all roles."""
        found = (await self._run({"command": "listRoles"}, "")).get("data", {}).get("roles", [])
        return sorted(each for each in found if isinstance(each, str))

    async def _run(self, command: Mapping[str, Any], name: str, lacking: bool = False) -> Mapping[str, Any]:
        """Return the plugin's answer to a command.

        Args:
            lacking: whether what the command names may be missing.
        """
        mark = self._world.new_id()
        body = json.dumps({"commands": [{**command, "correlationData": mark}]}).encode()
        await self._bus.publish_raw(_TOPIC, body, {})
        try:
            async with asyncio.timeout(_TIMEOUT):
                answer = await self._answer(mark)
        except TimeoutError:
            raise Unreachable(f"{self._bus.connection.url.shown}: its dynamic security does not answer; is the plugin "
                              "loaded?") from None  # fmt: skip
        why = answer.get("error")
        if isinstance(why, str) and not (lacking and why.lower() in _NOT_THERE):
            code = "exists" if why.lower() in _THERE else "invalid"
            raise _refused(code, name, f"a command that mosquitto takes: {command['command']}", why)
        return answer

    async def _answer(self, mark: str) -> Mapping[str, Any]:
        async for message in self._answers:
            try:
                (found,) = json.loads(message.body)["responses"]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
            if isinstance(found, dict) and found.get("correlationData") == mark:
                return found
        raise Unreachable("the broker has ended")


@asynccontextmanager
async def dynamic_security(url: str, world: World) -> AsyncIterator[DynamicSecurity]:
    """Yield the dynamic security of a broker. Raise Refused where the login may not administer it, Unreachable where
    the broker does not answer."""
    ConnectionUrl.parse(url).require_protection()
    async with MqttBus(url, _ROOT, world, "devices") as bus:
        await bus.link.wait_up(_TIMEOUT)
        try:
            async with bus.subscribe(f"{_TOPIC}/response") as answers:
                yield DynamicSecurity(bus, answers, world)
        except Refused as error:
            if error.code != "forbidden":
                raise
            raise Refused("forbidden", topic=f"{_ROOT}/{_TOPIC}", expected="a login that administers dynamic security",
                          got="another", hint="Give its URL by --broker, or by HELIOGRAPH_NODE.") from None  # fmt: skip


def _refused(code: str, name: str, expected: str, got: str) -> Refused:
    return Refused(code, topic=f"device/{name}", expected=expected, got=got,
                   hint="'heliograph device list' names those that there are.")  # fmt: skip
