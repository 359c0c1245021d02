"""Hostile edges, devices and clients of a run. What they send is drawn from the plan: equal plans send equal bytes.

They send only what a real broker lets them send: an edge publishes on its own topics, a device on its node's broker, a
client at the door.
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 only its type: the generator is seeded
from collections.abc import Callable, Mapping
from typing import Any

from heliograph.bus.contract import topics
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.contract.topics import REQUEST, Topic
from heliograph.bus.memory.hub import Hub
from heliograph.bus.transport import Message
from heliograph.core.world import seeded
from heliograph.simulations.fuzz.plan import BY_DEVICES, BY_ROGUES, Hostile, Plan
from heliograph.simulations.fuzz.rogue import Rogue
from heliograph.simulations.input_fuzz.hostile_values import TEXTS, hostile_value
from heliograph.simulations.input_fuzz.mutate import mutate_bytes, mutate_tree
from heliograph.simulations.input_fuzz.targets.documents import event_tree
from heliograph.simulations.input_fuzz.trees import Form, encode_tree
from heliograph.simulations.virtual.virtual_cluster import VirtualCluster

DEVICE = "intruder"
"""Name of hostile devices."""
_ON_NODE = (topics.TELEMETRY, topics.TELEMETRY, topics.INFERENCE_REQUEST, topics.OFFLOAD, topics.MODEL_UPDATE,
            topics.WORKER, topics.EVALUATION, topics.HARD_SAMPLE)  # fmt: skip
_VERBS = ("create", "update", "delete", "get", "status", "training", "x")
_FORMS: tuple[Form, ...] = ("json", "msgpack")


class Hostiles:
    """The hostile parties of a plan."""

    def __init__(self, cluster: VirtualCluster, plan: Plan) -> None:
        self._cluster = cluster
        self._plan = plan
        jobs = [each.name for each in plan.jobs]
        self.rogues = {
            name: Rogue(name, cluster, jobs, seeded(f"rogue/{plan.seed}/{name}")) for name in plan.rogues
        }

    async def start(self) -> None:
        """Connect the rogue edges: the coordinator sees them as it sees others."""
        for rogue in self.rogues.values():
            await rogue.start()

    async def run(self) -> None:
        """Act, and return when the last act is over."""
        async with asyncio.TaskGroup() as group:
            for act in self._plan.hostiles:
                group.create_task(self._act(act))

    async def finish(self) -> None:
        """End: the rogues leave, as an operator disconnects them."""
        for rogue in self.rogues.values():
            await rogue.stop()

    async def _act(self, act: Hostile) -> None:
        world = self._cluster.world
        rng = seeded(f"hostile/{self._plan.seed}/{act.number}")
        await world.sleep(max(0.0, act.at - world.monotonic()))
        for _ in range(act.count):
            self._send(act, rng)
            await world.sleep(act.every)

    def _send(self, act: Hostile, rng: random.Random) -> None:
        if act.kind in BY_ROGUES:
            rogue = self.rogues[act.target]
            acts: Mapping[str, Callable[[random.Random], None]] = {
                "bad-reports": rogue.report, "bad-updates": rogue.update, "bad-events": rogue.event,
            }  # fmt: skip
            acts[act.kind](rng)
        elif act.kind in BY_DEVICES:
            _device(self._cluster.node(act.target), act, rng)
        else:
            _put(self._cluster.hub, _odd(rng, REQUEST.at(resource="jobs", verb="create"), _VERBS), _request(rng))


def _put(hub: Hub, topic: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    """Publish on a broker without a client's checks."""
    hub.publish(topic, Message(topic, body, headers=dict(headers or {})))


def _drawn_event(rng: random.Random, topic: Topic[Any], source: str) -> bytes:
    """Return an event of a topic, mostly mutated."""
    tree = {**event_tree(topic, rng), "source": source, "subject": "x"}
    whole = tree if rng.random() < 0.7 else tree["data"]
    body = encode_tree(mutate_tree(rng, whole, tree) if rng.random() < 0.9 else whole, rng.choice(_FORMS))
    return mutate_bytes(rng, body, body) if rng.random() < 0.1 else body


def _device(node: Hub, act: Hostile, rng: random.Random) -> None:
    edge = act.target
    if act.kind == "flooding-device":
        _put(node, topics.TELEMETRY.at(edge=edge, device=DEVICE), b'{"flood":%d}' % rng.randrange(1 << 30))
        return
    topic = rng.choice(_ON_NODE)
    words = {"edge": edge, "device": DEVICE, "job": "tiny-1", "service": "a", "client": "c", "id": "1", "worker": "w"}
    address = topic.at(**{name: words[name] for name in topic.params})
    source = rng.choice((f"{edge}/{DEVICE}/1", f"{edge}/tiny-1-train/1", f"{edge}/agent/1", "cloud/coordinator/1", "x"))
    body = _drawn_event(rng, topic, source)
    if topic is topics.TELEMETRY and rng.random() < 0.7:
        body = encode_tree({"value": hostile_value(rng), "more": [hostile_value(rng)]}, rng.choice(_FORMS))
    message = Message(_odd(rng, address, ()), body)
    if rng.random() < 0.2:
        node.retain(message.topic, Message(message.topic, message.body, retained=True))
    node.publish(message.topic, message)


def _request(rng: random.Random) -> bytes:
    """Return a request that creates nothing: its document is no valid one, or names what is not there."""
    tree: dict[str, Any] = {
        "kind": rng.choice(("FederatedTask", "Model", "JointInferenceService", "Edge", "x")),
        "metadata": {"name": rng.choice(("", "a b", "../x", "UPPER", "\ud83d", "x" * 64))}, "spec": {"rounds": 10**30},
        "reply_to": rng.choice(("heliograph/reply/c/1", "x", 1, "heliograph/reply/a/b/c")),
    }  # fmt: skip
    if rng.random() < 0.3:
        event = Event("1", "a/b/c", "x", {"name": "nothing"})
        return mutate_bytes(rng, encode(event), encode(event))
    tree["metadata"] = tree["metadata"] if rng.random() < 0.5 else rng.choice((None, [], "x", {"name": ["a"]}))
    return encode_tree(tree, "json")


def _odd(rng: random.Random, topic: str, verbs: tuple[str, ...]) -> str:
    """Return the topic, now and then with another last word or one of the wrong shape."""
    head = topic.rpartition("/")[0]
    if rng.random() < 0.1:
        odd = [text for text in TEXTS if isinstance(text, str) and text and len(text) < 400 and "\0" not in text]
        return f"{head}/{rng.choice(odd)}"
    return f"{head}/{rng.choice(verbs)}" if verbs else topic
