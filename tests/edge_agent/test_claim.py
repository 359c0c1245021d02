"""Two agents of one name: exactly one of them gives up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract import topics
from heliograph.bus.contract.payloads import Claim
from heliograph.bus.transport import Message
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.failures import Failures
from heliograph.core.tasks import cancel_and_wait
from heliograph.edge_agent.claim import NameClaim, NameTaken, gives_up

claims = st.builds(Claim, edge=st.just("edge-1"), incarnation=st.text("0123456789abcdef", min_size=1, max_size=4),
                   settled=st.booleans())  # fmt: skip


@given(claims, claims)
def test_exactly_one_gives_up(one: Claim, other: Claim) -> None:
    if one.incarnation != other.incarnation:
        assert gives_up(one, other) != gives_up(other, one)


def test_the_newcomer_gives_up() -> None:
    newcomer, running = Claim(edge="e", incarnation="a"), Claim(edge="e", incarnation="b", settled=True)
    assert gives_up(newcomer, running)
    assert not gives_up(running, newcomer)


class Agents:
    """Agents of one name, each with its own connection."""

    def __init__(self, node: Any) -> None:
        self.node = node

    async def start(
        self, incarnation: str, signer: Ed25519Signer | None = None
    ) -> tuple[NameClaim, asyncio.Task[None], Any]:
        port = self.node.port("memory://cloud", f"agent-{incarnation}",
                              f"edge-1/agent/{incarnation}")  # fmt: skip
        await port.bus.open()
        claim = NameClaim(port, "edge-1", f"state-{incarnation}", self.node.background, Failures(pytest.fail),
                          signer)  # fmt: skip
        return claim, self.node.start(claim.run()), port.bus


def test_an_agent_alone_has_its_name_at_once(on_node: Any) -> None:
    async def test(node: Any) -> None:
        claim, running, _ = await Agents(node).start("a")
        await node.settled()
        assert claim.settled.is_set()
        assert node.loop.time() == 0
        await asyncio.sleep(100)
        assert not running.done()
        await cancel_and_wait(running)

    on_node(test)


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_the_newcomer_ends_and_names_where_the_other_runs(on_node: Any, first: str, second: str) -> None:
    async def test(node: Any) -> None:
        agents = Agents(node)
        one, running, _ = await agents.start(first)
        await node.settled()
        other, coming, _ = await agents.start(second)
        await asyncio.sleep(5)
        with pytest.raises(NameTaken, match=f"state state-{first}.*another --name"):
            await coming
        assert not other.settled.is_set()
        assert one.settled.is_set()
        assert not running.done()
        await cancel_and_wait(running)

    on_node(test)


def test_of_two_that_start_together_one_goes_on(on_node: Any) -> None:
    async def test(node: Any) -> None:
        agents = Agents(node)
        (_, one, _), (_, other, _) = await asyncio.gather(agents.start("a"), agents.start("b"))
        await asyncio.sleep(5)
        assert [one.done(), other.done()] == [False, True]
        assert isinstance(other.exception(), NameTaken)
        await cancel_and_wait(one)

    on_node(test)


def test_two_that_worked_apart_meet_when_a_link_is_back(on_node: Any) -> None:
    async def test(node: Any) -> None:
        agents = Agents(node)
        _, one, cut = await agents.start("b")
        await node.settled()
        cut.lost()
        _, other, _ = await agents.start("a")
        await asyncio.sleep(5)
        assert [one.done(), other.done()] == [False, False]
        cut.connect()
        await asyncio.sleep(5)
        assert [one.done(), other.done()] == [True, False]
        assert isinstance(one.exception(), NameTaken)
        await cancel_and_wait(other)

    on_node(test)


def test_an_agent_without_a_link_asks_when_it_has_one(on_node: Any) -> None:
    async def test(node: Any) -> None:
        claim, running, bus = await Agents(node).start("a")
        bus.lost()
        await asyncio.sleep(100)
        assert not claim.settled.is_set()
        bus.connect()
        await asyncio.sleep(5)
        assert claim.settled.is_set()
        await cancel_and_wait(running)

    on_node(test)


def test_its_own_claim_and_invalid_ones_end_nothing(on_node: Any) -> None:
    async def test(node: Any) -> None:
        address = topics.CLAIM.at(edge="edge-1")
        claims = node.heard(node.cloud_broker, address)
        _, running, bus = await Agents(node).start("a")
        await node.settled()
        await bus.publish(address, claims[-1].body)
        node.cloud_broker.publish(address, Message(address, b"no event"))
        await asyncio.sleep(5)
        assert not running.done()
        await cancel_and_wait(running)

    on_node(test)


KEY, OTHER = Ed25519Signer(bytes(32)), Ed25519Signer(bytes(31) + b"\x01")


@pytest.mark.parametrize("incarnation", ["0", "z"])
@pytest.mark.parametrize("signer", [None, OTHER])
def test_an_agent_with_its_edges_key_heeds_no_other_claim(
    on_node: Any, incarnation: str, signer: Ed25519Signer | None
) -> None:
    async def test(node: Any) -> None:
        agents = Agents(node)
        _, running, _ = await agents.start("m", KEY)
        await node.settled()
        thief = node.port("memory://cloud", "thief", "edge-1/agent/thief")
        await thief.bus.open()
        forged = Claim(edge="edge-1", incarnation=incarnation, settled=True, host="elsewhere")
        for answer in (False, True):
            claim = forged.model_copy(update={"answer": answer})
            await thief.publish(topics.CLAIM, claim, edge="edge-1", signer=signer)
        await asyncio.sleep(5)
        assert not running.done()
        await cancel_and_wait(running)

    on_node(test)


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_of_two_with_the_same_key_the_newcomer_ends(on_node: Any, first: str, second: str) -> None:
    async def test(node: Any) -> None:
        agents = Agents(node)
        _, running, _ = await agents.start(first, KEY)
        await node.settled()
        _, coming, _ = await agents.start(second, KEY)
        await asyncio.sleep(5)
        with pytest.raises(NameTaken):
            await coming
        assert not running.done()
        await cancel_and_wait(running)

    on_node(test)


@pytest.mark.parametrize("keyed_first", [False, True])
def test_an_agent_without_a_key_gives_way_to_one_with_it(on_node: Any, keyed_first: bool) -> None:
    async def test(node: Any) -> None:
        agents = Agents(node)
        started = {}
        for signer in (KEY, None) if keyed_first else (None, KEY):
            _, started[signer], _ = await agents.start("a" if signer else "0", signer)
            await node.settled()
        await asyncio.sleep(5)
        with pytest.raises(NameTaken):
            await started[None]
        assert not started[KEY].done()
        await cancel_and_wait(started[KEY])

    on_node(test)
