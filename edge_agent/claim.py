"""One agent per name: at each connect to the cloud an agent asks whether another of its name lives, and one gives up.

The broker says at once that nobody listens, so that asking costs no time. A process that was killed answers nobody: its
successor is not refused for a connection that the broker still holds.
"""

from __future__ import annotations

import contextlib
import platform

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode, encode
from heliograph.bus.contract.payloads import Claim
from heliograph.bus.port import Port, Received
from heliograph.core.errors import HeliographError, NobodyAnswers, Unreachable
from heliograph.core.tasks import Background, Flag

ANSWER_WITHIN = 0.5
"""Seconds to wait for an answer. An agent that hangs for longer, or whose link is cut, is met when it reconnects."""
AGAIN = 0.2


class NameTaken(HeliographError):
    """Another agent of this name runs."""


class NameClaim:
    """An agent's claim to its name.

    Args:
        place: names this agent's state directory and journal, for people.
    """

    def __init__(self, port: Port, edge: str, place: str, background: Background) -> None:
        self._port = port
        self._background = background
        self._address = topics.CLAIM.at(edge=edge)
        incarnation = port.source.rpartition("/")[2]
        self._mine = Claim(edge=edge, incarnation=incarnation, host=platform.node(), state=place)
        self.asked = Flag()
        """Set once no other agent was found."""

    async def run(self) -> None:
        """Run until cancelled. Raises NameTaken where this agent has to give up."""
        while True:
            try:
                await self._port.bus.link.wait_up()
                await self._ask()
                self._mine = self._mine.model_copy(update={"settled": True})
                self.asked.set()
                await self._listen()
            except NameTaken:
                raise
            except HeliographError:
                await self._port.world.sleep(AGAIN)

    async def _ask(self) -> None:
        """Ask before this agent itself listens, so that the broker can say whether another one does."""
        try:
            answer = await self._port.bus.request(self._address, self._said(), ANSWER_WITHIN)
        except NobodyAnswers:
            return
        except Unreachable:
            if not self._port.bus.link.up:
                raise
            return
        self._decide(topics.CLAIM.validate(decode(answer.body, self._address).data, self._address))

    async def _listen(self) -> None:
        async with self._port.subscribe(topics.CLAIM, lambda error: None, edge=self._mine.edge) as claims:
            self._port.bus.link.listen(self._on_link)  # called now, too: another may have asked at the same moment
            try:
                async for each in claims:
                    await self._hear(each)
            finally:
                self._port.bus.link.forget(self._on_link)

    def _on_link(self, up: bool) -> None:
        if up:
            self._background.spawn(self._say(self._address, self._said()))

    async def _hear(self, received: Received[Claim]) -> None:
        if received.payload.incarnation == self._mine.incarnation:
            return
        if not received.payload.answer:
            await self._say(received.message.reply_to or self._address, self._said(answer=True))
        self._decide(received.payload)

    def _decide(self, other: Claim) -> None:
        if gives_up(self._mine, other):
            raise NameTaken(
                f"another agent named {other.edge} runs on {other.host} (state {other.state}); "
                "give one of the two another --name"
            )

    async def _say(self, address: str, body: bytes) -> None:
        with contextlib.suppress(Unreachable):
            await self._port.bus.publish(address, body)

    def _said(self, answer: bool = False) -> bytes:
        claim = self._mine.model_copy(update={"answer": answer})
        return encode(self._port.event(topics.CLAIM, claim, self._address))


def gives_up(mine: Claim, other: Claim) -> bool:
    """Return whether this agent ends: the newcomer does; of two alike, the one with the greater incarnation."""
    if mine.settled != other.settled:
        return other.settled
    return mine.incarnation > other.incarnation
