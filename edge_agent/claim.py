"""One agent per name: at each connect to the cloud an agent asks for another of its name, and one of the two gives up.

The broker answers at once where nobody listens, so the request costs no time. A killed process answers no request: a
connection that the broker still keeps for it does not stop its successor.

An agent with its edge's key signs its claims, and heeds only those that the same key has signed: nobody else who can
publish makes it give up. One without a key gives way to one that has it.
"""

from __future__ import annotations

import contextlib
import platform

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, decode, encode
from heliograph.bus.contract.event_signature import holds, signer_of
from heliograph.bus.contract.payloads import Claim
from heliograph.bus.port import Port, Received
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import HeliographError, NobodyAnswers, Unreachable
from heliograph.core.failures import Failures
from heliograph.core.tasks import Background, Flag

ANSWER_TIMEOUT = 0.5
"""Seconds to wait for an answer. An agent that hangs longer, or whose link is cut, is found when it reconnects."""
RETRY_AFTER = 0.2
"""Seconds before a failed request is repeated."""


class NameTaken(HeliographError):
    """Another agent of this name runs."""


class NameClaim:
    """An agent's claim to its name.

    Args:
        place: names this agent's state directory and journal, for people.
        signer: the edge's key; None where it has none.
    """

    def __init__(
        self, port: Port, edge: str, place: str, background: Background, failures: Failures,
        signer: Ed25519Signer | None = None,
    ) -> None:  # fmt: skip
        self._port = port
        self._signer = signer
        self._background = background
        self._failures = failures
        self._address = topics.CLAIM.at(edge=edge)
        incarnation = port.source.rpartition("/")[2]
        self._claim = Claim(edge=edge, incarnation=incarnation, host=platform.node(), state=place)
        self.settled = Flag()
        """Set once no other agent has been found."""

    async def run(self) -> None:
        """Run until cancelled. Raise NameTaken where this agent has to give up."""
        while True:
            try:
                await self._port.bus.link.wait_up()
                await self._find_other()
                self._claim = self._claim.model_copy(update={"settled": True})
                self.settled.set()
                await self._listen()
            except NameTaken:
                raise
            except HeliographError:
                await self._port.world.sleep(RETRY_AFTER)
            except Exception as error:
                self._failures.add(self._address, error)
                await self._port.world.sleep(RETRY_AFTER)

    async def _find_other(self) -> None:
        """Ask before this agent listens itself, so that the broker can tell whether another one does."""
        try:
            answer = await self._port.bus.request(self._address, self._event_of_claim(), ANSWER_TIMEOUT)
        except NobodyAnswers:
            return
        except Unreachable:
            if not self._port.bus.link.up:
                raise
            return
        event = decode(answer.body, self._address)
        self._decide(topics.CLAIM.validate(event.data, self._address), self._key_of(event, answer.body))

    async def _listen(self) -> None:
        async with self._port.subscribe(topics.CLAIM, lambda error: None, edge=self._claim.edge) as claims:
            self._port.bus.link.listen(self._on_link)  # also calls it now: another agent may ask at this moment
            try:
                async for each in claims:
                    await self._receive(each)
            finally:
                self._port.bus.link.forget(self._on_link)

    def _on_link(self, up: bool) -> None:
        if up:
            self._background.spawn(self._publish(self._address, self._event_of_claim()))

    async def _receive(self, received: Received[Claim]) -> None:
        if received.payload.incarnation == self._claim.incarnation:
            return
        key = self._key_of(received.event, received.message.body)
        if not received.payload.answer:
            await self._publish(received.message.reply_to or self._address, self._event_of_claim(answer=True))
        self._decide(received.payload, key)

    def _key_of(self, event: Event, body: bytes) -> bytes | None:
        """Return the public key that has signed a claim of this edge; None for one that is unsigned or forged."""
        public = signer_of(event)
        return public if public is not None and event.subject == self._address and holds(body, public) else None

    def _decide(self, other: Claim, key: bytes | None) -> None:
        own = self._signer.public if self._signer is not None else None
        if own is not None and key != own:
            return
        if gives_up(self._claim, other) or (own is None and key is not None):
            raise NameTaken(
                f"another agent named {other.edge} runs on {other.host} (state {other.state}); "
                "give one of the two another --name"
            )

    async def _publish(self, address: str, body: bytes) -> None:
        with contextlib.suppress(Unreachable):
            await self._port.bus.publish(address, body)

    def _event_of_claim(self, answer: bool = False) -> bytes:
        claim = self._claim.model_copy(update={"answer": answer})
        return encode(self._port.event(topics.CLAIM, claim, self._address), signer=self._signer)


def gives_up(mine: Claim, other: Claim) -> bool:
    """Return whether this agent gives up: the newcomer does; of two newcomers, the one with the greater incarnation."""
    if mine.settled != other.settled:
        return other.settled
    return mine.incarnation > other.incarnation
