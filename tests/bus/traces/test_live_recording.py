"""Recording from real brokers."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.lanes import LANE, NUMBER, headers_of
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.traces import recording
from heliograph.bus.traces.blob_collector import BlobCollector
from heliograph.bus.traces.mcap_index import read_index
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recording import Recorder
from heliograph.bus.traces.writing import TraceWriter
from heliograph.core.errors import Refused
from heliograph.core.world import World
from heliograph.local.nats_server import Broker
from tests.bus.meeting import retained_value
from tests.bus.traces.live_traces import METER, event, opened, read, recorded
from tests.patience import HANGS


class TestRecording:
    async def test_messages_are_recorded_with_the_brokers_time(self, cloud: Broker, tmp_path: Path) -> None:
        path = tmp_path / "a.mcap"
        async with opened(cloud.url("coordinator")) as bus, opened(cloud.url("operator")) as seeing:
            await bus.publish(METER, event(0))
            await bus.publish("edge/edge-1/up/report", event(1))
            before = int(World().now() * 1e9)
            async with recorded(seeing, path) as outcome:
                for n in range(2, 20):
                    await bus.publish(METER, event(n), headers=headers_of("edge-1.j.1", n))
                await bus.publish("reply/me/1", b'{"ok":true}')
                await bus.publish("edge/edge-1/claim", event(20))
        found = read(path)
        assert outcome.complete and outcome.messages == len(found) == 21
        assert [each.topic for each in found if each.retained] == ["edge/edge-1/up/report"]  # a last value
        assert found[0].log_time < before, "the broker's time, not the recorder's"
        meters = [each for each in found if each.topic == METER]
        assert [decode(each.body).data["n"] for each in meters] == list(range(2, 20))
        assert [each.headers for each in meters] == [{LANE: "edge-1.j.1", NUMBER: str(n)} for n in range(2, 20)]
        assert {each.publish_time for each in meters} == {1795291200_250000000}
        assert {each.topic for each in found} >= {"reply/me/1", "edge/edge-1/claim"}

    async def test_only_matching_messages_are_recorded_and_each_once(self, cloud: Broker, tmp_path: Path) -> None:
        patterns = ("edge/edge-1/up/report/#", "event/telemetry/edge-1/#", "event/telemetry/#", "reply/+/1")
        async with opened(cloud.url("coordinator")) as bus, recorded(bus, tmp_path / "a.mcap", *patterns):
            for address in (METER, "event/telemetry/edge-2/meter", "edge/edge-1/up/report", "reply/a/1", "reply/a/2"):
                await bus.publish(address, event(1))
        wanted = ["edge/edge-1/up/report", METER, "event/telemetry/edge-2/meter", "reply/a/1"]  # '#' matches its parent
        assert sorted(each.topic for each in read(tmp_path / "a.mcap")) == wanted

    async def test_no_event_of_a_stream_is_lost_when_the_broker_is_killed(self, cloud: Broker, tmp_path: Path) -> None:
        async with opened(cloud.url("coordinator")) as bus, opened(cloud.url("operator")) as seeing:
            async with recorded(seeing, tmp_path / "a.mcap", "event/#") as outcome:
                for n in range(5):
                    await bus.publish(METER, event(n))
                await cloud.kill()
                await asyncio.gather(bus.link.wait_down(), seeing.link.wait_down())
                await cloud.start()
                await asyncio.gather(bus.link.wait_up(HANGS), seeing.link.wait_up(HANGS))
                for n in range(5, 10):
                    await bus.publish(METER, event(n))
        assert [decode(each.body).data["n"] for each in read(tmp_path / "a.mcap")] == list(range(10))
        assert outcome.outages == 1 and not outcome.complete

    async def test_past_events_of_all_streams_are_recorded_in_order(self, cloud: Broker, tmp_path: Path) -> None:
        label = "edge/cloud/up/label/j"
        async with opened(cloud.url("coordinator")) as bus, opened(cloud.url("operator")) as seeing:
            for n in range(20):
                await bus.publish(label if n % 3 else METER, event(n))
            with TraceWriter(tmp_path / "a.mcap", chunk_size=1) as writer:
                recorder = Recorder(seeing, writer, World(), past=True, most=22)
                running = asyncio.create_task(recorder.run())
                await recorder.ready.wait()
                for n in range(20, 22):
                    await bus.publish(METER, event(n))
                assert (await running).complete
        with (tmp_path / "a.mcap").open("rb") as file:
            starts = [each.start for each in read_index(file, "a.mcap").chunks]
            assert starts == sorted(starts), "the file has the messages in their recorded order"
        with TraceReader(tmp_path / "a.mcap") as reader:
            assert [decode(each.body).data["n"] for each in reader] == list(range(22))

    async def test_a_recording_stops_at_its_limit(self, cloud: Broker, tmp_path: Path) -> None:
        async with opened(cloud.url("coordinator")) as bus, recorded(bus, tmp_path / "a.mcap", most=3):
            for n in range(9):
                await bus.publish(METER, event(n))
        assert len(read(tmp_path / "a.mcap")) == 3

    @pytest.mark.parametrize("kind", ["nats", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
    async def test_over_mqtt_retained_values_come_first(
        self, kind: str, broker: Any, mosquitto: Any, tmp_path: Path
    ) -> None:
        url = (await broker()).url("coordinator", "mqtt") if kind == "nats" else (await mosquitto()).url()
        patterns = ("status/#", "event/#", "+/telemetry/#")  # the patterns overlap, and each message is recorded once
        async with opened(url, name="writer") as bus, opened(url, name="reader") as seeing:
            await bus.publish("status/jobs/j", before := event(0, address="status/jobs/j"), retain=True)
            await retained_value(bus, "status/jobs/j", before)
            async with recorded(seeing, tmp_path / "a.mcap", *patterns, most=3):
                await bus.publish(METER, b'{"celsius": 21}')
                await bus.publish("status/jobs/j", event(1, address="status/jobs/j"), retain=True)
        found = read(tmp_path / "a.mcap")
        assert [(each.topic, each.retained) for each in found] == [
            ("status/jobs/j", True), (METER, False), ("status/jobs/j", False)
        ]  # fmt: skip

    async def test_the_error_names_a_login_that_may_read_streams(self, cloud: Broker, tmp_path: Path) -> None:
        async with opened(cloud.url("worker")) as bus:
            with pytest.raises(Refused, match="a login that may read streams"):
                async with recorded(bus, tmp_path / "a.mcap"):
                    pass
        assert list(tmp_path.glob("a.mcap*")) == []

    async def test_without_streams_events_are_recorded_as_they_pass(self, broker: Any, tmp_path: Path) -> None:
        url = (await broker()).url("coordinator")
        async with opened(url) as bus, recorded(bus, tmp_path / "a.mcap", "event/telemetry/#") as outcome:
            await bus.publish_raw(METER, event(1), {})  # type: ignore[attr-defined]
        assert len(read(tmp_path / "a.mcap")) == 1
        assert outcome.unstored == ["event/telemetry/{edge}/{device}"]

    async def test_recorded_messages_are_flushed_in_time(
        self, cloud: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recording, "FLUSH_AFTER", 0.01)
        flushed = asyncio.Event()
        flush = TraceWriter.flush

        def noticed(writer: TraceWriter) -> None:
            flush(writer)
            flushed.set()

        monkeypatch.setattr(TraceWriter, "flush", noticed)
        async with opened(cloud.url("coordinator")) as bus, recorded(bus, tmp_path / "a.mcap"):
            await bus.publish(METER, event(1))
            await asyncio.wait_for(flushed.wait(), HANGS)
            with TraceReader(tmp_path / "a.mcap.part") as reader:
                assert [each.body for each in reader] == [event(1)]
                assert reader.problems

    async def test_weights_are_attached_once_and_within_the_limit(self, cloud: Broker, tmp_path: Path) -> None:
        blobs = [bytes([n]) * 5000 for n in range(3)]
        refs = []
        async with opened(cloud.url("coordinator")) as bus:
            assert isinstance(bus, NatsBus)
            store = await bus.blobs("models")
            for n, content in enumerate(blobs):
                (tmp_path / str(n)).write_bytes(content)
                ref = WeightsRef(digest=sha256(content).hexdigest(), size=5000)
                refs.append(await store.put(tmp_path / str(n), ref))
            refs.insert(0, WeightsRef(digest="0" * 64, size=10, bucket="nowhere"))
            with TraceWriter(tmp_path / "a.mcap") as writer:
                collector = BlobCollector(bus, writer, World(), limit=10_500)
                recorder = Recorder(bus, writer, World(), most=8, blobs=collector)
                running = asyncio.create_task(recorder.run())
                await recorder.ready.wait()
                for n, ref in enumerate([*refs, *refs]):
                    await bus.publish(METER, event(n, weights=ref.model_dump(exclude_none=True)))
                outcome = await running
        with TraceReader(tmp_path / "a.mcap") as reader:
            assert sorted(data for _, data in reader.attachments()) == blobs[:2]
        assert len(outcome.missing_blobs) == 2 and not outcome.complete
        assert "there is no bucket nowhere" in " ".join(outcome.missing_blobs)
        assert "more than 10500 bytes" in " ".join(outcome.missing_blobs)
