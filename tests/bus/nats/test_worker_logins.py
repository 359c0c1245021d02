"""A launch's login in the cloud, on a real broker: it reaches what is its worker's and its job's, and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heliograph.bus.arriving_blob import CHUNK
from heliograph.bus.connect import connect
from heliograph.bus.connection_url import with_credentials
from heliograph.bus.contract.buckets import MODELS, ROUNDS
from heliograph.bus.contract.launch_permissions import Launch
from heliograph.bus.contract.permissions import inbox_of, upload_bucket
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import AGGREGATION, ASSIGNMENT, BIG_MODEL, MODEL_UPDATE, TASK, WORKER
from heliograph.bus.nats.blobs import NatsBlobs
from heliograph.bus.nats.bus import NatsBus
from heliograph.bus.nats.worker_issuer import WorkerIssuer
from heliograph.core.errors import Forbidden, HeliographError, Refused, Unreachable
from heliograph.core.identity.nkeys import KeyPair
from heliograph.core.names import CLOUD
from heliograph.core.world import World
from heliograph.local.nats_server import Broker
from tests.bus.meeting import PATIENCE, following
from tests.bus.roles import Start, agent, coordinator, try_to_publish, violations

LAUNCH = Launch.of("train-aggregate", "train", "0123abcd", CLOUD)
OTHER = Launch.of("other-aggregate", "other", "4567cdef", CLOUD)
SUBSCRIPTIONS = ("event/assignment/other-aggregate", "event/assignment/+", "event/worker/+", "edge/edge-1/down/task",
                 "edge/+/up/report", "edge/edge-1/up/model-update/other", "request/#", "event/#", "#")  # fmt: skip
PUBLICATIONS = ("event/assignment/train-aggregate", "event/worker/other-aggregate", "event/aggregation/other",
                "edge/edge-1/up/evaluation/train", "edge/edge-1/down/task", "status/jobs/train", "request/jobs/list",
                "edge/edge-1/down/big-model-answer/other/c/1")  # fmt: skip
STREAM = {"name": "MINE", "subjects": ["mine.>"]}
REQUESTS: dict[str, object] = {
    "STREAM.CREATE.MINE": STREAM,
    "STREAM.UPDATE.OBJ_models": STREAM | {"name": "OBJ_models"},
    "STREAM.DELETE.OBJ_models": None,
    "STREAM.DELETE.UPDATES": None,
    "STREAM.PURGE.OBJ_models": None,
    "STREAM.PURGE.OBJ_up-cloud": {"filter": "$O.up-cloud.>"},
    "STREAM.PURGE.KV_rounds": None,
    "STREAM.PURGE.UPDATES": None,
    "STREAM.MSG.DELETE.OBJ_models": {"seq": 1},
    "STREAM.MSG.DELETE.UPDATES": {"seq": 1},
    "STREAM.MSG.GET.TASKS": {"seq": 1},
    "STREAM.NAMES": None,
    "STREAM.LIST": None,
    "STREAM.INFO.KV_resources": None,
    "STREAM.INFO.TASKS": None,
    "STREAM.SNAPSHOT.OBJ_models": {"deliver_subject": "mine"},
    "DIRECT.GET.TASKS": {"seq": 1},
    "DIRECT.GET.KV_resources": {"seq": 1},
    "DIRECT.GET.KV_rounds": {"seq": 1},
    "DIRECT.GET.KV_rounds.$KV.rounds.4567cdef.1": None,
    "CONSUMER.CREATE.UPDATES.others": {"stream_name": "UPDATES", "config": {"name": "others"}},
    "CONSUMER.CREATE.UPDATES": {"stream_name": "UPDATES", "config": {}},
    "CONSUMER.CREATE.UPDATES.worker-train-aggregate.heliograph.edge.*.up.model-update.*": {
        "stream_name": "UPDATES",
        "config": {"name": "worker-train-aggregate", "filter_subject": "heliograph.edge.*.up.model-update.*"},
    },
    "CONSUMER.DURABLE.CREATE.UPDATES.others": {"stream_name": "UPDATES", "config": {"durable_name": "others"}},
    "CONSUMER.DELETE.UPDATES.worker-other-aggregate": None,
    "CONSUMER.MSG.NEXT.UPDATES.worker-other-aggregate": None,
    "CONSUMER.PAUSE.UPDATES.worker-other-aggregate": None,
    "CONSUMER.NAMES.UPDATES": None,
    "INFO": None,
    "ACCOUNT.PURGE.X": None,
}


def login(server: Broker, directory: Path, launch: Launch, seconds: int = 3600) -> Path:
    """Return the file with a login of a launch."""
    world, file = World(), directory / f"{launch.worker}.creds"
    issuer = WorkerIssuer.read(server.worker_issuer)
    key = KeyPair("user", world.new_secret())
    issuer.issue(launch, key, world.now(), int(world.now()) + seconds).write(file)
    return file


@asynccontextmanager
async def launched(server: Broker, directory: Path, launch: Launch = LAUNCH) -> AsyncIterator[NatsBus]:
    url = with_credentials(server.url(), login(server, directory, launch))
    async with connect(url, inbox=inbox_of(launch.login)) as bus:
        assert isinstance(bus, NatsBus)
        bus.makes_buckets = False
        await bus.link.wait_up(PATIENCE)
        yield bus


async def _stores(cloud: NatsBus) -> None:
    for bucket in (MODELS, upload_bucket(CLOUD), upload_bucket("edge-1")):
        await cloud.blobs(bucket)
    for keys in (ROUNDS, "resources"):
        await cloud.kv(keys)


async def test_the_broker_refuses_each_request_that_deletes_or_reads_what_is_anothers(
    broker: Start, tmp_path: Path
) -> None:
    server = await broker()
    async with coordinator(server) as cloud:
        await _stores(cloud)
        await cloud.publish(TASK.at(edge="edge-1"), b"of an edge")
        rounds = await cloud.kv(ROUNDS)
        await rounds.put(f"{OTHER.job_uid}.1", b"of another job")
        async with launched(server, tmp_path) as worker:
            for subject, document in REQUESTS.items():
                with pytest.raises(Forbidden):
                    await worker.connection.ask(f"$JS.API.{subject}", document)  # type: ignore[arg-type]
                assert violations(server, "Publish Violation", f'"$JS.API.{subject}"'), subject
            for topic in PUBLICATIONS:
                await try_to_publish(worker, topic)
            await worker.connection.settle()
            for topic in PUBLICATIONS:
                assert violations(server, "Publish Violation", f'"{worker.subjects.subject(topic)}"'), topic
            for pattern in SUBSCRIPTIONS:
                with pytest.raises(Refused):
                    async with worker.subscribe(pattern):
                        pass
            for inbox in ("_INBOX.>", f"{inbox_of(OTHER.login)}.>", f"{inbox_of('coordinator')}.>"):
                await worker.connection.client.subscribe(inbox)
                await worker.connection.settle()
                assert violations(server, "Subscription Violation", f'"{inbox}"'), inbox
            with pytest.raises(HeliographError):
                await (await worker.kv(ROUNDS)).put(f"{OTHER.job_uid}.1", b"forged")
        kept = await rounds.get(f"{OTHER.job_uid}.1")
        assert kept is not None
        assert kept.value == b"of another job"


async def test_no_header_deletes_a_bucket(broker: Start, tmp_path: Path) -> None:
    server = await broker()
    source = tmp_path / "model"
    source.write_bytes(b"weights")
    ref = WeightsRef(digest=hashlib.sha256(b"weights").hexdigest(), size=7)
    async with coordinator(server) as cloud, launched(server, tmp_path) as worker:
        await _stores(cloud)
        await (await cloud.blobs(MODELS)).put(source, ref)
        for subject in ("$O.models.C.x", f"$KV.rounds.{LAUNCH.job_uid}.1"):
            for how in ("all", "sub"):
                answer = await worker.connection.request(subject, b"x", headers={"Nats-Rollup": how})
                assert "rollup not permitted" in json.loads(answer.data)["error"]["description"]
        assert await (await cloud.blobs(MODELS)).digests() == [ref.digest]


async def test_a_launch_does_its_work(broker: Start, tmp_path: Path) -> None:
    server = await broker()
    source = tmp_path / "model"
    source.write_bytes(b"weights")
    ref = WeightsRef(digest=hashlib.sha256(b"weights").hexdigest(), size=7)
    update = MODEL_UPDATE.at(edge="edge-1", job="train")
    async with coordinator(server) as cloud:
        await _stores(cloud)
        await cloud.publish(update, b"an update")
        async with launched(server, tmp_path) as worker:
            async with worker.subscribe(ASSIGNMENT.at(worker=LAUNCH.worker)) as assigned:
                await cloud.publish(ASSIGNMENT.at(worker=LAUNCH.worker), b"a task")
                assert (await following(assigned)).body == b"a task"
            async with cloud.subscribe(WORKER.filter()) as states:
                await worker.publish(WORKER.at(worker=LAUNCH.worker), b"hello")
                assert (await following(states)).body == b"hello"
            for _ in range(2):  # a process that follows a killed one reads the same messages again
                async with worker.consume(MODEL_UPDATE.filter(job="train"), name=LAUNCH.login) as updates:
                    assert (await following(updates)).body == b"an update"
            models, uploads = await worker.blobs(MODELS), await worker.existing_blobs(upload_bucket(CLOUD))
            assert uploads is not None
            for bucket in (models, uploads):
                await bucket.put(source, ref)
                await bucket.put(source, ref)  # again: it is described anew
                target = tmp_path / f"fetched-{bucket is models}"
                assert (await bucket.fetch(ref, target)).read_bytes() == b"weights"
            of_edge = await cloud.blobs(upload_bucket("edge-1"))
            await of_edge.put(source, ref)
            of_edge_too = await worker.existing_blobs(upload_bucket("edge-1"))
            assert of_edge_too is not None
            assert await of_edge_too.has(ref.digest)
            assert (await of_edge_too.fetch(ref, tmp_path / "update")).read_bytes() == b"weights"
            assert await worker.existing_blobs(upload_bucket("edge-7")) is None
            rounds = await worker.kv(ROUNDS)
            assert await rounds.put(f"{LAUNCH.job_uid}.1", b"closed", 0)
            assert (await rounds.get(f"{LAUNCH.job_uid}.1") or pytest.fail()).value == b"closed"
            await worker.publish(AGGREGATION.at(job="train"), b"{}")
    assert violations(server) == []


async def test_what_a_cut_upload_has_sent_is_stored_once(broker: Start, tmp_path: Path) -> None:
    """A launch may not delete a beginning whose chunks came twice: so none comes twice."""
    server = await broker()
    content = bytes(3 * CHUNK)
    source = tmp_path / "model"
    source.write_bytes(content)
    ref = WeightsRef(digest=hashlib.sha256(content).hexdigest(), size=len(content))
    async with coordinator(server) as cloud, launched(server, tmp_path) as worker:
        await _stores(cloud)
        models = await worker.blobs(MODELS)
        assert isinstance(models, NatsBlobs)
        inbox = f"{worker.connection.inbox}.late"
        for _ in range(2):  # the second one does not know of the first one's chunks
            await worker._links.run(models._transfers.upload, inbox, source, ref, 0)
        counted = await cloud.connection.counted_subjects("OBJ_models", "$O.models.C.>")
        assert list(counted.values()) == [3]
        assert (await models.fetch(ref, tmp_path / "fetched")).read_bytes() == content


async def test_a_launch_answers_who_has_asked_and_nobody_else(broker: Start, tmp_path: Path) -> None:
    server = await broker()
    async with coordinator(server), launched(server, tmp_path) as worker, agent(server, "edge-1") as edge:
        answer_to = "edge/edge-1/down/big-model-answer/train/client/1"
        async with worker.subscribe(BIG_MODEL.filter(service="train"), queue="q") as asked, edge.subscribe(
            "edge/edge-1/down/big-model-answer/+/+/+"
        ) as answers:
            await edge.publish(BIG_MODEL.at(edge="edge-1", service="train"), b"sample", reply_to=answer_to)
            question = await following(asked)
            assert question.reply_to is not None
            await worker.publish(question.reply_to, b"answer", sure=False)
            assert (await following(answers)).body == b"answer"
            assert violations(server) == []
            await worker.publish("_INBOX.coordinator.guessed", b"forged")
            await worker.connection.settle()
    assert violations(server, "Publish Violation", "_INBOX.coordinator.guessed")


async def test_a_login_of_a_launch_ends_by_itself(broker: Start, tmp_path: Path) -> None:
    server = await broker()
    for seconds in (1, 4, 16):  # on a loaded machine a short one ends before the client has come
        file = login(server, tmp_path, LAUNCH, seconds=seconds)
        async with connect(with_credentials(server.url(), file)) as bus:
            with contextlib.suppress(Forbidden, Unreachable):
                await bus.link.wait_up(seconds)
                await bus.link.wait_down()
                while "authorization violation" not in bus.link.last_error.lower():
                    await World().sleep(0.01)  # the client tries again and again
                return
    pytest.fail("no login lasted until its client had come")


async def test_a_key_for_workers_signs_for_nobody_else(broker: Start, tmp_path: Path) -> None:
    """Whatever a token claims that this key has signed, the broker gives it a worker's rights."""
    server = await broker()
    named = Launch("x", "x", "x", CLOUD, "coordinator")
    async with launched(server, tmp_path, named) as bus:
        with pytest.raises(Forbidden):
            await bus.connection.ask("$JS.API.STREAM.NAMES")
        with pytest.raises(Refused):
            async with bus.subscribe("#"):
                pass
