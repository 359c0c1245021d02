"""A hostile edge: it is online and reports as others do, and sends what no honest edge does."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random  # noqa: TID251 only its type: the generator is seeded
from collections.abc import Sequence
from typing import Any

import numpy as np

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, decode, encode
from heliograph.bus.contract.lanes import LANE, NUMBER
from heliograph.bus.contract.payloads import Desired, TrainTask
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.bus.contract.weights_file import dumps, origin
from heliograph.bus.memory.bus import MemoryBus
from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import Message
from heliograph.core.errors import Refused
from heliograph.simulations.faults.deterministic_training import initial_model
from heliograph.simulations.faults.job_chain import size_of
from heliograph.simulations.input_fuzz.hostile_values import hostile_value
from heliograph.simulations.input_fuzz.mutate import mutate_tree
from heliograph.simulations.input_fuzz.targets.documents import event_tree
from heliograph.simulations.input_fuzz.trees import encode_tree
from heliograph.simulations.virtual.loop import NO_PROCESS
from heliograph.simulations.virtual.virtual_cluster import CLOUD_URL, VirtualCluster

_OTHERS = (topics.INFERENCE_STATS, topics.TELEMETRY, topics.HARD_SAMPLE, topics.REPORT)
_WORDS = {"job": "tiny-1", "service": "a", "worker": "w", "device": "d"}
ANSWERS_AFTER = 0.1
"""Seconds from a task to the answer."""
_HEADERS: tuple[dict[str, str], ...] = (
    {}, {}, {LANE: "edge-1.x.0", NUMBER: "²"}, {LANE: "x", NUMBER: "9" * 19}, {"Status": "404"},
)  # fmt: skip


class Rogue:
    """One hostile edge.

    Args:
        jobs: names of the jobs, which it may name without being asked.
        rng: decides its answers to tasks.
    """

    def __init__(self, name: str, cluster: VirtualCluster, jobs: Sequence[str], rng: random.Random) -> None:
        self._rng = rng
        self._name = name
        self._hub: Hub = cluster.hub
        self._jobs = jobs
        self._client = MemoryBus(CLOUD_URL, DEFAULT_ROOT, cluster.world, f"agent-{name}", cluster.hub)
        self._sent = 0

    async def start(self) -> None:
        await self._client.open()
        self._publish(topics.REPORT.at(edge=self._name), self._event(topics.REPORT.type, self._lies(None)))
        self._hub.receivers.add(topics.TASK.filter(edge=self._name), "", self._task)

    async def stop(self) -> None:
        await self._client.close()

    def report(self, rng: random.Random) -> None:
        """Send a report: a lie, or malformed."""
        if rng.random() < 0.3:
            body = self._event(topics.REPORT.type, self._lies(rng))
        else:
            tree = event_tree(topics.REPORT, rng)
            tree["data"]["edge"] = self._name if rng.random() < 0.9 else "edge-1"
            if rng.random() < 0.3:
                tree["data"][rng.choice(("version", "offers", "labels", "workers", "observed"))] = hostile_value(rng)
            body = encode_tree(mutate_tree(rng, tree, tree), rng.choice(("json", "msgpack")))
        self._publish(topics.REPORT.at(edge=self._name), body, rng.choice(_HEADERS))

    def update(self, rng: random.Random) -> None:
        """Send an update that must not count: malformed, foreign, stale, too early, of other weights or claims."""
        task = next((each for each in self._tasks() if each.round > 0), None)
        job = task.job if task is not None else rng.choice([*self._jobs, "another"])
        data = self._bad_update(rng, job, task)
        event = encode(Event(self._id(), f"{self._name}/w/1", topics.MODEL_UPDATE.type, data))
        body = event if rng.random() < 0.85 else event[: rng.randrange(len(event))]
        self._publish(topics.MODEL_UPDATE.at(job=job, edge=self._name), body, rng.choice(_HEADERS))

    def event(self, rng: random.Random) -> None:
        """Send an event of another topic, mutated."""
        topic = rng.choice(_OTHERS)
        tree = event_tree(topic, rng)
        address = topic.at(**{name: self._name if name == "edge" else _WORDS[name] for name in topic.params})
        body = encode_tree(mutate_tree(rng, tree, tree), rng.choice(("json", "msgpack")))
        self._publish(address, body, rng.choice(_HEADERS))

    def _task(self, message: Message) -> None:
        # outside the publisher's process, which may be killed
        asyncio.get_running_loop().call_later(ANSWERS_AFTER, self._answer, context=NO_PROCESS)

    def _answer(self) -> None:
        """Answer the first round as an honest edge does, since the first model is one edge's initial weights; answer
        later ones by bad updates, or not at all."""
        for task in self._tasks():
            if task.round > 0 and task.is_due:
                for _ in range(self._rng.choice((0, 1, 1, 3))):
                    self.update(self._rng)
            elif task.is_due:
                arrays = initial_model(size_of(task.job))
                weights = dumps(arrays, origin(task.job_uid, 0, self._name))
                data = self._update_of(task.job, task.job_uid, 0, None, weights, 1)
                event = encode(Event(self._id(), f"{self._name}/w/1", topics.MODEL_UPDATE.type, data))
                self._publish(topics.MODEL_UPDATE.at(job=task.job, edge=self._name), event)

    def _bad_update(self, rng: random.Random, job: str, task: TrainTask | None) -> dict[str, Any]:
        uid = task.job_uid if task is not None else "another"
        round = task.round if task is not None else 1
        base = task.model.digest if task is not None and task.model is not None else "0" * 64
        weights = dumps({"w": np.ones(3, np.float32)}, {"n": str(rng.random())})
        data = self._update_of(job, uid, round, base, weights, 10)
        kind = rng.randrange(12)
        if kind == 0:
            data["job_uid"] = "another"
        elif kind == 1:
            data["round"] = rng.choice((round - 1, -1, round + 2, 1 << 60))
        elif kind == 2:
            data["base"] = "f" * 64
        elif kind == 3:
            data["num_samples"] = rng.choice((0, -1, 10**12, 0.5, 1e300))
        elif kind == 4:
            data["weights"]["digest"] = "f" * 64
        elif kind == 5:
            data["weights"] = {"digest": "f" * 64, "size": rng.choice((77_000, 1 << 40))}  # in no bucket
        elif kind == 6:
            data["weights"] = {"digest": "f" * 64, "size": 300_000, "bucket": "uploads-edge-1"}
        elif kind == 7:
            data["weights"] = _inline(dumps({"w": np.full(3, math.nan, np.float32)}))
        elif kind == 8:
            data["weights"] = _inline(rng.randbytes(50))
        elif kind == 9:
            data["metrics"] = {"loss": 1.7e308, "x" * 100: -1.7e308}
        elif kind == 10:
            data["edge"] = "edge-1"
        else:
            data["job"] = rng.choice((1, None, "UPPER", ["a"]))
        return data

    def _update_of(
        self, job: str, uid: str, round: int, base: str | None, weights: bytes, num_samples: int
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"job": job, "job_uid": uid, "round": round, "edge": self._name,
                                 "weights": _inline(weights), "num_samples": num_samples, "metrics": {}}  # fmt: skip
        return found | ({"base": base} if base is not None else {})

    def _lies(self, rng: random.Random | None) -> dict[str, Any]:
        """Return a valid report; with ``rng`` one that lies."""
        found: dict[str, Any] = {"edge": self._name, "observed": {"epoch": 0, "n": 0}, "version": "0.2.0"}
        if rng is None:
            return found
        failing = {"worker": "w", "role": "train", "job_uid": "x", "round": 1, "state": "backing-off", "restarts": 99,
                   "detail": "\x1b[2J"}  # fmt: skip
        lies: tuple[dict[str, Any], ...] = (
            {"observed": {"epoch": 1 << 52, "n": 1 << 52}}, {"version": "99.99"}, {"version": "x" * 1000},
            {"waiting_events": 1 << 60, "dropped_events": -5}, {"models": ["0" * 64] * 100},
            {"datasets": [{"name": "d", "samples": 90_000_000}]}, {"labels": {"a" * 1000: "b" * 1000}},
            {"offers": {"algorithms": {"bad name/\u202e": {"properties": {}}, "x": {}}}},
            {"workers": [failing | {"job": job} for job in self._jobs]},
        )  # fmt: skip
        return found | rng.choice(lies)

    def _tasks(self) -> list[TrainTask]:
        """Return the tasks that the coordinator asks of this edge now."""
        kept = self._hub.streams.get(topics.TASK.stream_name)
        message = kept.last(topics.TASK.at(edge=self._name)) if kept is not None else None
        if message is None:
            return []
        try:
            desired: Desired = topics.TASK.validate(decode(message.body, message.topic).data, message.topic)
        except Refused:
            return []
        return [each for each in desired.tasks if isinstance(each, TrainTask)]

    def _publish(self, topic: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._hub.publish(topic, Message(topic, body, headers=dict(headers or {})))

    def _event(self, type: str, data: dict[str, Any]) -> bytes:
        return encode(Event(self._id(), f"{self._name}/agent/1", type, data))

    def _id(self) -> str:
        self._sent += 1
        return f"{self._name}-{self._sent}"


def _inline(weights: bytes) -> dict[str, Any]:
    return {"digest": hashlib.sha256(weights).hexdigest(), "size": len(weights), "inline": weights}
