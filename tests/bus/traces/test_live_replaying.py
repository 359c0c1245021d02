"""Replaying to real brokers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, decode, encode
from heliograph.bus.contract.event_signature import check_event_signature
from heliograph.bus.contract.lanes import LANE, REPLAYED, headers_of
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.replayed_message import Names, replayed_message
from heliograph.bus.traces.replaying import Replayer, ReplayOutcome
from heliograph.bus.traces.schedule import Choice, Span, first_live
from heliograph.bus.traces.writing import TraceWriter
from heliograph.bus.transport import Bus, Message
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.world import World
from heliograph.local.nats_server import Broker
from tests.bus.meeting import retained_value
from tests.bus.traces.live_traces import METER, SECOND, TIME, event, opened
from tests.patience import HANGS


class TestReplaying:
    def trace(self, path: Path, messages: list[Recorded]) -> Path:
        with TraceWriter(path) as writer:
            for each in messages:
                writer.write(each)
        return path

    async def replayed(self, bus: Bus, path: Path, **options: Any) -> ReplayOutcome:
        with TraceReader(path) as reader:
            span = Span.parse("", "", first_live(reader), reader.info.end)
            return await Replayer(bus, World(), **{"speed": 0, **options}).run(reader, span)

    async def test_messages_are_replayed_in_order_and_marked(self, cloud: Broker, tmp_path: Path) -> None:
        signed = encode(Event("s", "edge-1/w/life", "x", {"n": 999}), key=bytes(32))
        bodies = [*(event(n) for n in range(600)), signed, b'{"celsius":21}', b""]
        messages = [Recorded(METER, body, n, n, headers_of("edge-1.j.1", n + 1)) for n, body in enumerate(bodies)]
        path = self.trace(tmp_path / "a.mcap", messages)
        async with opened(cloud.url("coordinator")) as bus:
            outcome = await self.replayed(bus, path)
            assert (outcome.selected, outcome.published, outcome.complete) == (603, 603, True)
            found = await first_messages(bus, METER, 603)
        assert [decode(each.body).data["n"] for each in found[:601]] == [*range(600), 999]
        assert all(decode(each.body).replayed for each in found[:601])
        assert b"mac" not in found[600].body
        assert [each.body for each in found[601:]] == [b'{"celsius":21}', b""]
        for each in found:
            assert each.headers[REPLAYED] == "1"
            assert LANE not in each.headers and "Nats-Msg-Id" not in each.headers

    async def test_intervals_are_divided_by_the_speed(self, cloud: Broker, tmp_path: Path) -> None:
        retained = Recorded(METER, event(9), 5, 5, retained=True)  # an old event is replayed at once
        messages = [retained, *(Recorded(METER, event(n), (1000 + n) * SECOND, 0) for n in (0, 4, 5))]
        slept: list[float] = []
        now = 0.0

        async def sleep(seconds: float) -> None:
            nonlocal now
            slept.append(round(seconds, 6))
            now += seconds

        world = World(sleep=sleep, monotonic=lambda: now)
        path = self.trace(tmp_path / "a.mcap", messages)
        async with opened(cloud.url("coordinator")) as bus:
            with TraceReader(path) as reader:
                span = Span.parse("", "", first_live(reader), reader.info.end)
                outcome = await Replayer(bus, world, speed=10.0).run(reader, span)
            found = await first_messages(bus, METER, 4)
        assert (outcome.published, slept) == (4, [0.4, 0.1])
        assert [decode(each.body).data["n"] for each in found] == [9, 0, 4, 5]

    async def test_names_are_changed_in_addresses_and_bodies(self, cloud: Broker, tmp_path: Path) -> None:
        address = "edge/edge-1/up/hard-sample/old"
        body = event(1, "edge-1/w/life", address, job="old", edge="edge-1", more=[{"job": "old", "x": "old"}])
        other = "edge/edge-2/up/hard-sample/other"
        path = self.trace(
            tmp_path / "a.mcap",
            [Recorded(address, body, 1, 1), Recorded(other, event(2, "edge-2/w/1", other, job="other"), 2, 2)],
        )
        async with opened(cloud.url("coordinator")) as bus:
            outcome = await self.replayed(bus, path, names=Names.parse(["job=old:new,edge=edge-1:edge-9"]))
            assert outcome.complete
            first, second = await first_messages(bus, "edge/+/up/hard-sample/#", 2)
        assert first.topic == "edge/edge-9/up/hard-sample/new" and second.topic == other
        decoded = decode(first.body)
        assert (decoded.source, decoded.subject) == ("edge-9/w/life", "edge/edge-9/up/hard-sample/new")
        assert decoded.data == {"n": 1, "job": "new", "edge": "edge-9", "more": [{"job": "new", "x": "old"}]}
        assert decode(second.body).data["job"] == "other"

    async def test_decisions_and_answers_are_skipped_unless_named(self, cloud: Broker, tmp_path: Path) -> None:
        skipped = ["edge/edge-1/down/task", "edge/edge-1/up/report", "status/jobs/j", "request/jobs/create",
                "reply/a/1", "ack/x", "edge/edge-1/claim", "event/assignment/w", "event/worker/w",
                "event/aggregation/j",
                "inference/s/request", "edge/edge-1/up/log/agent/x", "edge/edge-1/up/model-update/j",
                "edge/edge-1/up/evaluation/j"]  # fmt: skip
        replayed = [METER, "edge/edge-1/up/hard-sample/j", "edge/cloud/up/label/j"]
        messages = [Recorded(each, event(n), n, n) for n, each in enumerate([*skipped, *replayed])]
        path = self.trace(tmp_path / "a.mcap", messages)
        async with opened(cloud.url("coordinator")) as bus:
            outcome = await self.replayed(bus, path)
            assert (outcome.selected, outcome.published, sum(outcome.skipped.values())) == (3, 3, len(skipped))
            assert await bus.last("edge/edge-1/down/task") is None
            named = await self.replayed(bus, path, choice=Choice(("edge/+/down/task",)))
            assert (named.published, sum(named.skipped.values())) == (1, len(messages) - 1)
            assert await bus.last("edge/edge-1/down/task") is not None

    @pytest.mark.parametrize("kind", ["nats", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
    async def test_undeclared_topics_are_replayed_only_with_raw(
        self, kind: str, cloud: Broker, mosquitto: Any, tmp_path: Path
    ) -> None:
        url = cloud.url("coordinator") if kind == "nats" else (await mosquitto()).url()
        messages = [Recorded("foo/bar", b"\x00raw", 1, 1), Recorded("foo/b.r", b"x", 2, 2), Recorded("a/#", b"", 3, 3)]
        path = self.trace(tmp_path / "a.mcap", messages)
        async with opened(url, name="one") as bus:
            outcome = await self.replayed(bus, path)
            assert (outcome.selected, outcome.published) == (3, 0)
            assert dict(outcome.unknown) == {"foo/bar": 1, "foo/b.r": 1, "a/#": 1}
            async with opened(url, name="two") as seeing, seeing.subscribe("foo/#") as arrived:
                outcome = await self.replayed(bus, path, choice=Choice(raw=True))
                async with asyncio.timeout(HANGS):
                    assert (await anext(arrived)).body == b"\x00raw"
        assert (outcome.selected, outcome.published, sum(outcome.refused.values())) == (3, 1, 2)

    async def test_messages_that_the_broker_refuses_are_counted(self, cloud: Broker, tmp_path: Path) -> None:
        label = "edge/cloud/up/label/j"  # an operator may publish these, but no telemetry
        messages = [Recorded(METER if n % 2 else label, event(n), n, n) for n in range(20)]
        messages.append(Recorded(label, event(20, pad="x" * topics.LABEL.max_size), 20, 20))
        messages += [Recorded("reply/a/1", b"{}", 21 + n, 0) for n in range(3)]
        path = self.trace(tmp_path / "a.mcap", messages)
        async with opened(cloud.url("operator")) as bus:
            outcome = await self.replayed(bus, path, choice=Choice(("#",)))
        assert (outcome.selected, outcome.published) == (24, 10)
        assert not outcome.complete
        refused = dict(outcome.refused)
        assert refused["event/telemetry/{edge}/{device}: this login may not publish there"] == 10
        assert sum(refused.values()) == 14
        assert any(f"at most {topics.LABEL.max_size} bytes" in why for why in refused)
        assert any("permissions violation" in why for why in refused)

    async def test_missing_streams_are_named(self, broker: Any, tmp_path: Path) -> None:
        path = self.trace(tmp_path / "a.mcap", [Recorded(METER, event(n), n, n) for n in range(3)])
        async with opened((await broker()).url("coordinator")) as bus:
            outcome = await self.replayed(bus, path)
        assert (outcome.published, sum(outcome.refused.values())) == (0, 3)
        assert "has no stream for them" in next(iter(outcome.refused))

    async def test_messages_are_given_up_when_the_broker_stays_away(
        self, cloud: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from heliograph.bus.traces import replaying

        monkeypatch.setattr(replaying, "WAIT_FOR_LINK", 0.2)
        path = self.trace(tmp_path / "a.mcap", [Recorded(METER, event(n), n * SECOND, n) for n in range(600)])
        async with opened(cloud.url("coordinator")) as bus:
            await cloud.kill()
            await bus.link.wait_down()
            outcome = await self.replayed(bus, path)
        assert (outcome.selected, outcome.published, sum(outcome.refused.values())) == (600, 0, 600)

    async def test_over_mqtt_retained_values_are_retained_again(self, cloud: Broker, tmp_path: Path) -> None:
        address = "status/jobs/j"
        path = self.trace(tmp_path / "a.mcap", [Recorded(address, event(1, address=address), 1, 1)])
        url = cloud.url("coordinator", "mqtt")
        async with opened(url, name="one") as bus, opened(url, name="two") as later:
            assert (await self.replayed(bus, path, choice=Choice(("status/#",)))).complete
            found = await retained_value(later, address)
        assert decode(found.body).replayed


async def first_messages(bus: Bus, pattern: str, count: int) -> list[Message]:
    """Return the first ``count`` messages of a stream."""
    async with bus.consume(pattern) as messages, asyncio.timeout(HANGS):
        return [await anext(messages) for _ in range(count)]


def test_replayed_json_stays_json() -> None:
    document = encode(Event("1", "a/b/c", "x", {"text": "ü"}, TIME, METER), "json")
    found = replayed_message(Recorded(METER, document, 1, 1), Names({}))
    assert json.loads(found.body) == {**json.loads(document), "replayed": True}
    assert replayed_message(found_as(found.body), Names({})).body == found.body


def found_as(body: bytes) -> Recorded:
    return Recorded(METER, body, 1, 1)


def test_a_replay_signs_anew_what_was_signed() -> None:
    recorded_by, target = Ed25519Signer(bytes(32)), Ed25519Signer(bytes(31) + b"\x01")
    address = "edge/edge-1/down/task"
    task = Event("1", "cloud/coordinator/a", "heliograph.task.v1", {"edge": "edge-1"}, TIME, address)
    original = Recorded(address, encode(task, signer=recorded_by), 0, 0)
    again = replayed_message(original, Names({}), target)
    assert not again.lost_signature
    check_event_signature(decode(again.body), again.body, address, (target.public,), "the target")
    assert decode(again.body).replayed
    unsigned = replayed_message(original, Names({}))
    assert unsigned.lost_signature
    assert not decode(unsigned.body).signed_by
    renamed = replayed_message(original, Names.parse(["edge=edge-7"]), target)
    check_event_signature(decode(renamed.body), renamed.body, "edge/edge-7/down/task", (target.public,), "the target")
    plain = replayed_message(Recorded(address, encode(task), 0, 0), Names({}), target)
    assert not decode(plain.body).signed_by
    assert not plain.lost_signature
