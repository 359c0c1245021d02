"""An agent's login on a real broker: it reads and writes what names its own edge, and the models."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from heliograph.bus.contract.permissions import inbox_of, upload_bucket
from heliograph.bus.contract.resources import WeightsRef
from heliograph.bus.contract.topics import TASK
from heliograph.bus.nats.bus import NatsBus
from heliograph.core.errors import HeliographError, Refused
from tests.bus.meeting import PATIENCE, following
from tests.bus.roles import Start, agent, coordinator, try_to_publish, violations


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


async def test_an_agent_takes_models_and_uploads_to_its_own_bucket(broker: Start, tmp_path: Path) -> None:
    server = await broker()
    source = tmp_path / "source"
    source.write_bytes(b"weights" * 1000)
    ref = WeightsRef(digest=hashlib.sha256(source.read_bytes()).hexdigest(), size=7000)
    async with coordinator(server) as cloud, agent(server, "edge-1") as edge:
        await (await cloud.blobs("models")).put(source, ref)
        models = await edge.blobs("models")
        assert (await models.fetch(ref, tmp_path / "model")).read_bytes() == source.read_bytes()
        uploads = await edge.blobs(upload_bucket("edge-1"))
        await uploads.put(source, ref)
        taken = await (await cloud.blobs(upload_bucket("edge-1"))).fetch(ref, tmp_path / "update")
        assert taken.read_bytes() == source.read_bytes()
        assert violations(server) == []
        another = tmp_path / "another"
        another.write_bytes(b"poison")
        poison = WeightsRef(digest=hashlib.sha256(b"poison").hexdigest(), size=6)
        with pytest.raises(HeliographError, match="Permissions Violation"):
            await models.put(another, poison)
        assert not await (await cloud.blobs("models")).has(poison.digest)
        assert violations(server, "agent-edge-1", "$O.models.C.")
