"""Participants that train by themselves, with paho alone, beside played edges; edges that join; the ends of jobs."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import queue
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from heliograph.bus.contract import weights_file as tensors
from heliograph.cli.app import run
from heliograph.cli.printing.documents import read_documents
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused, Unreachable
from heliograph.local.logins import write_user_files
from tests.coordinator.conftest import BASE, EDGES, Cloud
from tests.patience import HANGS

pytestmark = pytest.mark.asyncio(loop_scope="module")
EXAMPLES = Path(__file__).parents[4] / "examples"
_NUMBERS = itertools.count(1)


class Phone:
    """A participant's client: paho, JSON and base64, and nothing of ours."""

    def __init__(self, cloud: Cloud, login: str, job: str) -> None:
        broker = cloud.cluster.broker
        self.login, self.job = login, job
        self.name = login.removeprefix("participant-")
        self.replies: queue.Queue[dict[str, Any]] = queue.Queue()
        self.changes: queue.Queue[None] = queue.Queue()
        subscribed: queue.Queue[list[Any]] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(login, broker.password(login))
        self._client.on_connect = lambda *_: self._client.subscribe(
            [(f"heliograph/reply/{login}/+", 1), (f"heliograph/status/jobs/{job}", 1)]
        )
        self._client.on_subscribe = lambda _, __, ___, codes, ____: subscribed.put(codes)
        self._client.on_message = self._received
        self._client.connect(broker.host, broker.mqtt_port, keepalive=10)
        self._client.loop_start()
        assert [code.is_failure for code in subscribed.get(timeout=HANGS)] == [False, False]

    def _received(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        if message.topic.startswith("heliograph/reply/"):
            self.replies.put(json.loads(message.payload))
        else:
            self.changes.put(None)

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Send a request about the job; return the whole answer."""
        body = {"name": self.job, "reply_to": f"heliograph/reply/{self.login}/{next(_NUMBERS)}", **fields}
        self._client.publish(f"heliograph/request/jobs/{verb}", json.dumps(body), qos=1)
        return self.replies.get(timeout=HANGS)

    def join(self, done: Callable[[dict[str, Any]], bool] = lambda told: True, **fields: Any) -> dict[str, Any]:
        """Ask what to do, after each change of the job's status, until it is ``done``."""
        while True:
            answer = self.ask("join", **{"num_samples": 20, **fields})
            assert answer["ok"], answer
            told: dict[str, Any] = answer["result"]
            if done(told):
                return told
            self.changes.get(timeout=HANGS)

    def send(self, told: dict[str, Any], arrays: dict[str, Any], name: str = "", **changes: Any) -> None:
        """Publish an update."""
        weights = tensors.dumps(arrays, {"round": str(told["round"])})
        inline = base64.b64encode(weights).decode()
        ref = {"digest": hashlib.sha256(weights).hexdigest(), "size": len(weights), "inline": inline}
        topic = f"edge/{name or self.name}/up/model-update/{self.job}"
        data = {"job": self.job, "job_uid": told["job_uid"], "round": told["round"], "edge": name or self.name,
                "base": told["model"]["digest"], "weights": ref, "num_samples": 10, **changes}  # fmt: skip
        event = {"specversion": "1.0", "id": str(next(_NUMBERS)), "source": f"{self.name}/trainer/1", "subject": topic,
                 "type": "heliograph.model-update.v1", "data": data}  # fmt: skip
        self._client.publish(f"heliograph/{topic}", json.dumps(event), qos=1)

    def lose_link(self) -> None:
        """Break the connection as a power failure does, and stay away."""
        self._client.loop_stop()
        opened = self._client.socket()
        assert opened is not None
        opened.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def phone(cloud: Cloud, job: str, login: str) -> Iterator[Phone]:
    one = Phone(cloud, login, job)
    try:
        yield one
    finally:
        one.close()


@contextmanager
def endings(cloud: Cloud) -> Iterator[queue.Queue[dict[str, Any]]]:
    """Yield what a client without a login hears of the ends of jobs."""
    heard: queue.Queue[dict[str, Any]] = queue.Queue()
    subscribed: queue.Queue[list[Any]] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda *_: client.subscribe("heliograph/event/job-ended/+", 1)
    client.on_subscribe = lambda _, __, ___, codes, ____: subscribed.put(codes)
    client.on_message = lambda _, __, message: heard.put(json.loads(message.payload))
    client.connect(cloud.cluster.broker.host, cloud.cluster.broker.mqtt_port)
    client.loop_start()
    try:
        assert not subscribed.get(timeout=HANGS)[0].is_failure
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def active(told: dict[str, Any]) -> bool:
    return bool(told["active"])


def arrays_of(file: bytes, more: float) -> dict[str, Any]:
    """Return the tensors of a safetensors file, with something added to each weight."""
    with tensors.TensorFile(file) as opened:
        return {name: array + np.float32(more) for name, array in opened.arrays().items()}


async def test_the_example_program_learns_by_itself_and_everybody_hears_of_the_end(
    cloud: Cloud, tmp_path: Path
) -> None:
    for document in read_documents(str(EXAMPLES / "participant-task.yaml")):
        await cloud.client.resources(document.resource.plural).apply(document.tree)
    login = "participant-phone"
    home = write_user_files(tmp_path / "users", cloud.cluster.broker, (), participants=[login])[login]
    with endings(cloud) as heard:
        program = await asyncio.create_subprocess_exec(
            sys.executable, str(EXAMPLES / "participant.py"), str(home / "cluster.json"), "line",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(HANGS):
            out, _ = await program.communicate()
        ended = await asyncio.to_thread(heard.get, True, HANGS)
    assert program.returncode == 0, out
    lines = out.decode().splitlines()
    assert lines[0] == "round 0: w is 0.000, 0.000, 0.000"
    assert lines[-2].startswith("round 3: w is 1.000, -2.000, 0.500")
    assert lines[-1].startswith("Succeeded after")
    data, job = ended["data"], await cloud.client.jobs.get("line")
    assert (ended["id"], ended["type"]) == (f"{job['metadata']['uid']}.ended", "heliograph.job-ended.v1")
    assert (data["job"], data["phase"], data["reason"], data["round"]) == ("line", "Succeeded", "AllRoundsClosed", 3)
    assert (data["model"], data["digest"], data["created_by"]) == ("line", job["status"]["model"]["digest"], "operator")


async def test_participants_and_further_edges_count_in_a_job_that_runs(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    thread, (one, two, three) = asyncio.to_thread, (cloud.edges[name] for name in EDGES)
    with phone(cloud, "mixed", "participant-tablet") as tablet, phone(cloud, "mixed", "participant-watch") as watch:
        await cloud.job("mixed", EDGES[:1], rounds=3, roundDeadlineSeconds=HANGS)
        task = await one.task("mixed", 1)
        for each in (tablet, watch):
            told = await thread(each.join, lambda told: told["present"])
            assert (told["active"], told["round"], told["rounds"], told["most_samples"]) == (False, 1, 3, 20)
        await one.send(one.update(task, BASE))

        told = await thread(tablet.join, active)
        assert (told["round"], told["phase"], told["edge"]) == (2, "Running", "tablet")
        assert told["deadline"] and told["parameters"]["norm_factor"] == 10
        tried = await cloud.client.jobs.join("mixed", "edge-3", dry_run=True)
        assert "edge-3" not in (await cloud.client.jobs.get("mixed"))["status"]["joined"]
        assert await cloud.client.jobs.join("mixed", "edge-3") == tried
        assert (tried["active"], tried["present"], "model" in tried) == (False, True, False)
        words = ["join", "jobs/mixed", "--edge", "edge-2", "--edge", "edge-3", "--server", cloud.cluster.server]
        assert await thread(run, words) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"job/mixed (Running): {name} takes part from round 3 on" for name in ("edge-2", "edge-3")
        ]
        tablet.send(told, arrays_of(base64.b64decode(told["model"]["inline"]), 1.0))
        watch.send(await thread(watch.join, active), {"w": BASE["w"]})  # a tensor is missing
        await one.send(one.update(await one.task("mixed", 2), BASE))

        told = await thread(watch.join, lambda told: told["round"] == 3)
        assert told["active"] and "key 'b'" in told["uncounted"][0]["reason"]
        tablet.lose_link()  # no round waits for it any more
        watch.send(told, arrays_of(base64.b64decode(told["model"]["inline"]), 1.0))
        for edge in (one, two, three):
            await edge.send(edge.update(await edge.task("mixed", 3), BASE))
        status = await cloud.ended("mixed")
        assert (await thread(watch.join))["phase"] == "Succeeded"
    counted = [["edge-1"], ["edge-1", "tablet"], ["edge-1", "edge-2", "edge-3", "watch"]]
    assert [each["edges"] for each in status["rounds"]] == counted
    with pytest.raises(Refused) as refused:
        await cloud.client.jobs.join("mixed", "edge-2")
    assert refused.value.code == "ended"


async def test_weights_of_more_than_an_event_travel_in_parts(cloud: Cloud) -> None:
    whole = {"w": np.arange(400_000, dtype=np.float32)}
    file = cloud.cluster.directory / "large.safetensors"
    file.write_bytes(tensors.dumps(whole))
    await cloud.client.upload("large", file)
    worker = {"name": "scanner", "nodeName": "scanner"}
    spec = {"aggregationWorker": {"model": {"name": "large"}}, "trainingWorkers": [worker], "rounds": 1}
    await cloud.client.jobs.create({"kind": "FederatedTask", "metadata": {"name": "large"}, "spec": spec})
    with phone(cloud, "large", "participant-scanner") as one:
        told = await asyncio.to_thread(one.join, active)
        ref = told["model"]
        assert "inline" not in ref
        found = b""
        while len(found) < ref["size"]:
            part = (await asyncio.to_thread(one.ask, "weights", digest=ref["digest"], offset=len(found)))["result"]
            found += base64.b64decode(part["data"])
        assert hashlib.sha256(found).hexdigest() == ref["digest"]
        beyond = await asyncio.to_thread(one.ask, "weights", digest=ref["digest"], offset=ref["size"])
        assert beyond["error"]["field"] == "offset"

        trained = tensors.dumps(arrays_of(found, 1.0), {"round": "1"})
        named = {"digest": hashlib.sha256(trained).hexdigest(), "size": len(trained)}

        def upload(offset: int, data: bytes, **changes: Any) -> dict[str, Any]:
            text = base64.b64encode(data).decode()
            return one.ask("upload", **{**named, "offset": offset, "data": text, **changes})

        half = len(trained) // 2
        first, again = [await asyncio.to_thread(upload, 0, trained[:500_000]) for _ in range(2)]
        assert first["result"]["received"] == again["result"]["received"] == 500_000
        ahead = await asyncio.to_thread(upload, half + 500_000, trained[:9])  # a part that is not the next is not taken
        assert ahead["result"]["received"] == 500_000
        state = first["result"]
        while "weights" not in state:
            start = state["received"]
            state = (await asyncio.to_thread(upload, start, trained[start : start + 500_000]))["result"]
        one.send(told, {}, weights=state["weights"])
        status = await cloud.ended("large")
    assert status["rounds"][-1]["edges"] == ["scanner"]
    trained_model = await cloud.client.download("large", cloud.cluster.directory / "trained.safetensors")
    assert arrays_of(trained_model.read_bytes(), 0.0)["w"][1] == 2


async def test_requests_that_make_no_sense_are_refused_and_change_nothing(cloud: Cloud) -> None:
    created = await cloud.job("strict", ("nowhere",))  # it waits for that edge
    small = {"digest": "0" * 64, "size": 8, "offset": 0, "data": "AAAA"}
    with phone(cloud, "strict", "participant-camera") as one:

        async def refused(verb: str, **fields: Any) -> tuple[str, str]:
            error = (await asyncio.to_thread(one.ask, verb, **fields))["error"]
            return error["code"], error["field"]

        assert await refused("join") == ("invalid", "num_samples")
        assert await refused("join", edge="edge-2", num_samples=5) == ("invalid", "edge")
        for samples in (0, -1, 1.5, 10**9, "many"):
            assert (await refused("join", num_samples=samples))[1] == "num_samples", samples
        assert await refused("join", num_samples=5, round=3) == ("unknown-field", "round")
        assert await refused("join", num_samples=5, resource_version="1") == ("conflict", "resource_version")
        assert await refused("upload", **small) == ("not-joined", "name")
        assert await refused("weights", digest="0" * 64) == ("not-joined", "name")
        assert (await cloud.client.jobs.get("strict"))["status"] == created["status"]

        assert (await asyncio.to_thread(one.join))["phase"] == "Pending"
        assert (await cloud.client.edges.get("camera"))["status"]["foreign"]
        assert await refused("weights", digest="0" * 64) == ("invalid", "digest")
        for size in (0, 1 << 30):
            assert await refused("upload", **{**small, "size": size}) == ("too-large", "size")
        for data in ("AAA", "!!!!", "", "A" * 800_000):
            assert (await refused("upload", **{**small, "data": data}))[1] == "data", data[:9]
        assert await refused("upload", **{**small, "size": 2}) == ("invalid", "data")
        assert await refused("upload", **{**small, "size": 3}) == ("bad-weights", "digest")
        told = {"round": 1, "job_uid": created["metadata"]["uid"], "model": {"digest": "0" * 64}}
        one.send(told, BASE, "edge-1")  # the broker drops an update in another's name
    for fields in ({}, {"edge": "nowhere"}, {"edge": "camera"}, {"edge": "edge-2", "dataset": "none"}):
        with pytest.raises(Refused) as error:
            await cloud.client.jobs.join("strict", **fields)  # type: ignore[arg-type]
        assert error.value.code == "invalid", fields
    async with AsyncClient(cloud.cluster.broker.url("participant-watch")) as watch:  # over NATS, by our own client
        assert (await watch.jobs.join("strict", num_samples=7))["edge"] == "watch"
        with pytest.raises(Unreachable):
            await watch.jobs.stop("strict")  # its rights end here, too
    assert (await cloud.client.jobs.get("strict"))["status"]["joined"] == {
        name: {"foreign": True, "dataset": "", "samples": samples} for name, samples in (("camera", 20), ("watch", 7))
    }
    forged = f"{cloud.cluster.broker.directory}/nats.log"
    assert "heliograph.edge.edge-1.up.model-update.strict" in await asyncio.to_thread(Path(forged).read_text)


async def test_a_job_that_is_deleted_before_its_end_is_told_as_deleted(cloud: Cloud) -> None:
    with endings(cloud) as heard:
        await cloud.job("short", ("nowhere",))
        await cloud.client.jobs.delete("short")
        while (ended := await asyncio.to_thread(heard.get, True, HANGS))["data"]["job"] != "short":
            pass
    assert (ended["data"]["phase"], ended["data"]["completion_time"]) == ("Deleted", "")
