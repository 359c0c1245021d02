"""An agent's login on a real broker: it reads and writes what names its own edge, and the models."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from heliograph.bus.contract.permissions import inbox_of, permissions, upload_bucket
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.contract.topics import TASK
from heliograph.bus.nats.bus import NatsBus
from heliograph.core.errors import Refused
from tests.bus.meeting import PATIENCE, following
from tests.bus.roles import Start, agent, answering, coordinator, try_to_publish, violations

BUCKETS = [f"OBJ_{each}" for each in ("models", "packages", "datasets", "shards", upload_bucket("edge-1"))]


async def test_an_agent_reads_its_own_task_document(broker: Start) -> None:
    server = await broker()
    async with coordinator(server) as cloud, agent(server, "edge-1") as edge:
        await cloud.publish(TASK.at(edge="edge-1"), b"of one")
        await cloud.publish(TASK.at(edge="edge-2"), b"of two")
        kept = await edge.last(TASK.at(edge="edge-1"))
        assert kept is not None
        assert kept.body == b"of one"
        async with edge.subscribe(TASK.at(edge="edge-1")) as tasks:
            await cloud.publish(TASK.at(edge="edge-2"), b"of two again")
            await cloud.publish(TASK.at(edge="edge-1"), b"of one again")
            assert (await following(tasks)).body == b"of one again"
    assert violations(server) == []


async def test_an_agent_hears_no_other_task_document(broker: Start) -> None:
    server = await broker()
    async with agent(server, "edge-1") as edge:
        assert isinstance(edge, NatsBus)
        for pattern in ("edge/edge-2/down/task", "edge/+/down/task", "event/#", "edge/+/up/report", "request/#", "#"):
            with pytest.raises(Refused):
                async with edge.subscribe(pattern):
                    pass
            subject = edge.subjects.subject(pattern)
            assert violations(server, "agent-edge-1", f'Subscription Violation - Subject "{subject}"'), pattern


async def test_an_agent_reads_no_other_task_document_by_any_api(broker: Start) -> None:
    server = await broker()
    other = "heliograph.edge.edge-2.down.task"
    tries = {
        f"$JS.API.DIRECT.GET.TASKS.{other}": {},
        "$JS.API.DIRECT.GET.TASKS": {"last_by_subj": other},
        "$JS.API.STREAM.MSG.GET.TASKS": {"last_by_subj": other},
        f"$JS.API.CONSUMER.CREATE.TASKS.mine.{other}": {
            "stream_name": "TASKS",
            "config": {"name": "mine", "filter_subject": other, "ack_policy": "none"},
        },
        "$JS.API.CONSUMER.CREATE.TASKS": {
            "stream_name": "TASKS",
            "config": {"deliver_subject": "_INBOX.edge-1.push", "ack_policy": "none"},
        },
        "$JS.API.STREAM.CREATE.COPY": {"name": "COPY", "sources": [{"name": "TASKS"}]},
        "$JS.API.STREAM.PURGE.TASKS": {},
        "$JS.API.STREAM.DELETE.TASKS": {},
        f"$JS.API.DIRECT.GET.OBJ_{upload_bucket('edge-2')}.$O.{upload_bucket('edge-2')}.M.x": {},
        "$JS.API.DIRECT.GET.KV_state.$KV.state.jobs.one": {},
    }
    async with coordinator(server) as cloud, agent(server, "edge-1") as edge:
        assert isinstance(edge, NatsBus)
        await cloud.publish(TASK.at(edge="edge-1"), b"of one")
        await cloud.publish(TASK.at(edge="edge-2"), b"of two")
        answers = await edge.connection.client.subscribe(f"{inbox_of('edge-1')}.>")
        for subject, body in tries.items():
            reply = f"{inbox_of('edge-1')}.answer"
            await edge.connection.client.publish(subject, json.dumps(body).encode(), reply=reply)
        own = "$JS.API.DIRECT.GET.TASKS.heliograph.edge.edge-1.down.task"
        await edge.connection.client.publish(own, b"", reply=f"{inbox_of('edge-1')}.answer")
        answer = await answers.next_msg(PATIENCE)
        assert answer.data == b"of one"
        assert answers.pending_msgs == 0
        for subject in tries:
            assert violations(server, "agent-edge-1", f'"{subject}"'), subject
        kept = await cloud.last(TASK.at(edge="edge-2"))
        assert kept is not None
        assert kept.body == b"of two"


async def test_an_agent_reports_only_for_itself(broker: Start) -> None:
    server = await broker()
    forbidden = [
        "edge/edge-2/up/report",
        "edge/edge-2/up/model-update/job-1",
        "edge/edge-2/up/hard-sample/job-1",
        "edge/edge-2/up/evaluation/job-1",
        "event/telemetry/edge-2/camera",
        "event/assignment/job-1-aggregate",  # of the cloud's agent alone
        "event/worker/job-1-aggregate",
        "ack/worker/job-1-aggregate",
        "edge/edge-1/down/task",
        "event/aggregation/job-1",
        "status/edges/edge-1",
        "request/jobs/delete",
    ]
    allowed = ["edge/edge-1/up/report", "edge/edge-1/up/model-update/job-1", "edge/edge-1/up/evaluation/job-1",
               "edge/edge-1/up/evaluation/job-1", "event/telemetry/edge-1/camera"]
    async with coordinator(server) as cloud, agent(server, "edge-1") as edge, cloud.subscribe("#") as messages:
        for topic in (*forbidden, *allowed):
            await try_to_publish(edge, topic)
        assert [(await following(messages)).topic for _ in allowed] == allowed
        for topic in forbidden:
            assert violations(server, "agent-edge-1", f'"{cloud.subjects.subject(topic)}"'), topic


async def test_an_agent_hears_no_other_agents_answers(broker: Start) -> None:
    server = await broker()
    async with agent(server, "edge-2") as edge:
        assert isinstance(edge, NatsBus)
        for inbox in ("_INBOX.edge-1.>", "_INBOX.>", "_INBOX.*.x", ">"):
            await edge.connection.client.subscribe(inbox)
            await edge.connection.settle()
            assert violations(server, "agent-edge-2", f'Subscription Violation - Subject "{inbox}"'), inbox


def _file(path: Path, content: bytes) -> WeightsRef:
    path.write_bytes(content)
    return WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))


async def test_an_agent_gets_blobs_and_gives_uploads_without_a_store(broker: Start, tmp_path: Path) -> None:
    server = await broker()
    model, update = _file(tmp_path / "model", b"weights" * 1_000_000), _file(tmp_path / "update", b"update" * 500_000)
    async with (
        coordinator(server) as cloud,
        agent(server, "edge-1") as edge,
        answering(cloud, edge, {update.digest: tmp_path / "update"}) as (to_edge, to_cloud),
    ):
        await (await cloud.blobs("models")).put(tmp_path / "model", model)
        fetched = await to_edge.fetch(model, tmp_path / "fetched" / "model")
        assert fetched.read_bytes() == (tmp_path / "model").read_bytes()
        taken = await to_cloud.fetch(update, tmp_path / "fetched" / "update")
        assert taken.read_bytes() == (tmp_path / "update").read_bytes()
    assert violations(server) == []


async def test_an_agent_may_touch_no_bucket_by_any_api(broker: Start, tmp_path: Path) -> None:
    """What edges could do while they read and wrote buckets: copy every stream, and forge answers of direct gets."""
    server = await broker()
    model = _file(tmp_path / "model", b"weights" * 1000)
    copy = {"name": "OBJ_models", "sources": [{"name": "TASKS"}]}
    wanted = {"seq": 1, "next_by_subj": f"$O.models.C.{model.digest}", "batch": 16}
    tries = {f"$JS.API.DIRECT.GET.{stream}": wanted for stream in BUCKETS}
    tries |= {f"$JS.API.STREAM.INFO.{stream}": {} for stream in BUCKETS}
    tries |= {f"$JS.API.STREAM.CREATE.{stream}": copy | {"name": stream} for stream in BUCKETS}
    tries |= {f"$JS.API.STREAM.PURGE.{stream}": {} for stream in BUCKETS}
    tries |= {f"$O.{stream.removeprefix('OBJ_')}.C.{model.digest}": {} for stream in BUCKETS}
    tries |= {f"$O.{stream.removeprefix('OBJ_')}.M.x": {} for stream in BUCKETS}
    tries |= {f"$JS.API.DIRECT.GET.{stream}.$O.{stream.removeprefix('OBJ_')}.M.x": {} for stream in BUCKETS}
    async with coordinator(server) as cloud, agent(server, "edge-1") as edge:
        assert isinstance(edge, NatsBus)
        for bucket in BUCKETS:
            await cloud.blobs(bucket.removeprefix("OBJ_"))
        await (await cloud.blobs("models")).put(tmp_path / "model", model)
        answers = await edge.connection.client.subscribe(f"{inbox_of('edge-1')}.>")
        for subject, body in tries.items():
            await edge.connection.client.publish(subject, json.dumps(body).encode(), reply=f"{inbox_of('edge-1')}.x")
        own = f"$JS.API.DIRECT.GET.TASKS.{edge.subjects.subject(TASK.at(edge='edge-1'))}"
        await edge.connection.client.publish(own, b"", reply=f"{inbox_of('edge-1')}.last")
        assert (await answers.next_msg(PATIENCE)).subject.endswith(".last")
        assert answers.pending_msgs == 0
        for subject in tries:
            assert violations(server, "agent-edge-1", f'"{subject}"'), subject
        assert await (await cloud.blobs("models")).digests() == [model.digest]


async def test_an_agent_asks_and_gives_in_no_other_edges_name(broker: Start, tmp_path: Path) -> None:
    server = await broker()
    forbidden = ["edge/edge-2/up/blob-ask", "edge/edge-2/up/upload-chunk/x", "edge/edge-2/up/upload-offer",
                 "edge/edge-1/down/blob-chunk/x", "edge/edge-1/down/upload-ask", "edge/edge-1/down/upload-settled",
                 "edge/edge-2/down/model-ready/job"]  # fmt: skip
    unheard = ["edge/edge-2/down/blob-chunk/+", "edge/edge-2/down/upload-ask", "edge/+/up/upload-chunk/+",
               "edge/+/down/model-ready/+", "event/aggregation/+"]  # fmt: skip
    async with coordinator(server) as cloud, agent(server, "edge-1") as edge, cloud.subscribe("edge/#") as messages:
        for topic in forbidden:
            await try_to_publish(edge, topic)
        await try_to_publish(edge, "edge/edge-1/up/upload-offer")
        assert (await following(messages)).topic == "edge/edge-1/up/upload-offer"
        for topic in forbidden:
            assert violations(server, "agent-edge-1", f'"{cloud.subjects.subject(topic)}"'), topic
        for pattern in unheard:
            with pytest.raises(Refused):
                async with edge.subscribe(pattern):
                    pass


async def test_a_participant_needs_no_store(broker: Start) -> None:
    for place in ("cloud", "node"):
        rights = permissions("participant", place, edge="phone", login="participant-phone")  # type: ignore[arg-type]
        assert not [each for each in (*rights.publish, *rights.subscribe) if each.startswith(("$JS", "$O"))]
    assert not [each for each in permissions("agent", "cloud", edge="edge-1").publish if "$O." in each]
