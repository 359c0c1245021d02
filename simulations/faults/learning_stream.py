"""An incremental job on a stream of digits, through all faults of the cluster: cameras ask, a person labels, the job
learns, and the cameras note which version answers them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from heliograph.bus.connect import connect
from heliograph.bus.contract import buckets
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.resources import IncrementalLearningJob, Model, resolve
from heliograph.bus.contract.topics import INFERENCE_REQUEST, VERDICT
from heliograph.bus.contract.weights_file import TensorFile, write
from heliograph.bus.transport import Bus
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.names import CLOUD
from heliograph.core.world import World, seeded
from heliograph.incremental.loop_shards import waiting_in_shards
from heliograph.label_client import Labeller
from heliograph.labelling.task_state import TaskState
from heliograph.simulations.faults import stream_learning, stream_serving
from heliograph.simulations.faults.learning_invariants import LearningEvidence, LoopEvidence
from heliograph.simulations.faults.retrying import RETRY_AFTER, until_answered
from heliograph.simulations.faults.stream_serving import CLASSES, FEATURES, NAMES, SERVICE, first_weights, prototypes

T = TypeVar("T")
ASK_EVERY = 0.7
"""Seconds between two images of a camera."""
ANSWER_WITHIN = 1.0
NEW_SAMPLES = 20
HELD_OUT = 20
LEASE = 5.0
BY_HAND_EVERY = 5.0
_ID_BYTES = 32


class Camera:
    """A camera on an edge's node. It shows one image after the other, and notes which version answers.

    Attributes:
        answered: digests of the versions that have answered.
        newest: the version that answered last.
        still: whether it shows its last image again and again, which is no new sample.
    """

    def __init__(self, edge: str, url: str, world: World, seed: str) -> None:
        self._url = url
        self._world = world
        self._rng = np.random.default_rng(seeded(f"camera/{seed}/{edge}").getrandbits(32))
        self._name = "camera"
        self._asked = 0
        self.answered: set[str] = set()
        self.newest = ""
        self.still = False
        self._image = self._next_image()

    async def run(self) -> None:
        """Ask until cancelled, through restarts of the node's broker."""
        bus = connect(self._url, world=self._world, name=self._name)
        await bus.open()
        try:
            while True:
                with contextlib.suppress(HeliographError, TimeoutError):
                    await self._ask_on(bus)
                await self._world.sleep(RETRY_AFTER)
        finally:
            await bus.close()

    async def _ask_on(self, bus: Bus) -> None:
        async with bus.subscribe(f"reply/{self._name}/+") as answers:
            while True:
                self._asked += 1
                if not self.still:
                    self._image = self._next_image()
                body = {"input": self._image,
                        "reply_to": f"{bus.root}/reply/{self._name}/{self._asked}"}  # fmt: skip
                await bus.publish(INFERENCE_REQUEST.at(service=SERVICE), json.dumps(body).encode(), sure=False)
                with contextlib.suppress(TimeoutError):  # nobody serves it now
                    async with asyncio.timeout(ANSWER_WITHIN):
                        self._note(json.loads((await anext(answers)).body))
                await self._world.sleep(ASK_EVERY)

    def _next_image(self) -> list[float]:
        digit = int(self._rng.integers(CLASSES))
        return [float(value) for value in prototypes()[digit] + self._rng.normal(size=FEATURES).astype(np.float32)]

    def _note(self, answer: Mapping[str, Any]) -> None:
        if answer.get("error") is None and (model := answer.get("model")):
            self.answered.add(model)
            self.newest = model


class LearningStream:
    """The job, with its service, its cameras and its labeller."""

    def __init__(
        self, client: AsyncClient, urls: Mapping[str, str], world: World, seed: int | str, note: Callable[[str], None]
    ) -> None:
        self._client = client
        self._world = world
        self._note = note
        self._cameras = {edge: Camera(edge, url, world, str(seed)) for edge, url in urls.items()}
        self._accepted: set[str] = set()
        self._first = write(first_weights(1.0), Path("/nonexistent"))

    async def run(self) -> None:
        """Create the job, then ask and label until cancelled."""
        for plural, document in self._documents():
            await self._retry(lambda plural=plural, document=document: self._client.resources(plural).create(document))  # type: ignore[misc]
        self._note("the stream's job begins")
        try:
            async with asyncio.TaskGroup() as group:
                for each in self._cameras.values():
                    group.create_task(each.run())
                group.create_task(self._label())
        finally:
            self._note(f"the stream has {len(self._accepted)} labels")

    async def settle(self, timeout: float) -> list[str]:
        """Wait until all that was found hard is labelled and learned, and every edge answers with the version that is
        named; return descriptions of what is not after so many seconds. The cameras show nothing new any more."""
        for camera in self._cameras.values():
            camera.still = True
        left, asked = ["a first look"], -BY_HAND_EVERY
        deadline = self._world.monotonic() + timeout
        while left and self._world.monotonic() < deadline:
            evidence = await self.evidence()
            left = _unfinished(evidence)
            if _waits_for_more(evidence) and self._world.monotonic() - asked >= BY_HAND_EVERY:
                asked = self._world.monotonic()
                await self._retry(lambda: self._client.incremental_jobs.ask("training", SERVICE))
            if left:
                await self._world.sleep(RETRY_AFTER)
        return [f"after the last fault the stream's job waited {timeout:g} s for: {each}" for each in left]

    async def evidence(self) -> LearningEvidence:
        """Return what is stored of the job, and what the cameras have seen."""
        bus = self._client.bus
        accepted = {*self._accepted}  # before the labels are read: the labeller goes on meanwhile
        job = IncrementalLearningJob.model_validate(
            await self._retry(lambda: self._client.incremental_jobs.get(SERVICE))
        )
        model = Model.model_validate(await self._retry(lambda: self._client.models.get(SERVICE)))
        queue = (await self._retry(lambda: self._client.labels.get(SERVICE)))["metadata"]["uid"]
        entries = await self._retry(lambda: _entries(bus, buckets.LABELS, f"{queue}."))
        tasks = [TaskState.from_json(value) for _, value in entries if value.startswith(b"{")]
        state = job.status.loop
        noted = await self._retry(lambda: _entries(bus, buckets.LEARNING, f"{job.metadata.uid}."))
        shards = {int(key.rpartition(".")[2]): _ids(value) for key, value in noted}
        loop = LoopEvidence(
            CLOUD, job.metadata.uid, True, state,
            {each.task.task for each in tasks if each.phase == "labelled"}, sum(each.phase == "open" for each in tasks),
            {number: ids for number, ids in shards.items() if number < state.next_shard}, job.status.rounds,
        )  # fmt: skip
        named = {edge: version.weights.digest for edge in self._cameras
                 if (version := resolve(model, edge)) is not None}  # fmt: skip
        return LearningEvidence(
            job=SERVICE, phase=job.status.phase, held_out=HELD_OUT, accepted={CLOUD: accepted}, loops=[loop],
            serving={edge: each.newest for edge, each in self._cameras.items()}, named=named,
            answered={edge: each.answered for edge, each in self._cameras.items()},
            evaluated={self._first.digest, *await self._retry(lambda: _passed(bus))},
        )  # fmt: skip

    async def _label(self) -> None:
        """Label what there is until cancelled."""
        while True:
            with contextlib.suppress(HeliographError):
                async with Labeller(self._client, SERVICE, "anna", world=self._world) as labeller:
                    async for task in labeller.tasks(follow=True, ahead=8):
                        with contextlib.suppress(Refused):  # the lease has ended
                            with TensorFile(task.task.data.inline or b"", "sample") as sample:
                                digit = int(np.argmin(((prototypes() - sample.numpy("x")) ** 2).sum(1)))
                            label = await labeller.submit(task, NAMES[digit])
                            if label.phase == "labelled":
                                self._accepted.add(label.task)
            await self._world.sleep(RETRY_AFTER)

    def _documents(self) -> list[tuple[str, dict[str, Any]]]:
        learned = {"model": {"name": SERVICE}, "nodeName": next(iter(self._cameras)),
                   "workerSpec": {"trainScriptBootFile": Path(stream_learning.__file__).name}}  # fmt: skip
        specs: dict[str, tuple[str, dict[str, Any]]] = {
            "models": ("Model", {"weights": self._first.model_dump(mode="json", exclude_none=True)}),
            "labels": ("LabelQueue", {"labelSchema": {"classes": list(NAMES)}, "leaseSeconds": LEASE}),
            "services": ("JointInferenceService", {
                "edgeWorker": {"model": {"name": SERVICE}, "scriptBootFile": Path(stream_serving.__file__).name},
                "hardSampleRule": {"name": "always"}, "hardSamplesTo": SERVICE, "edges": {"names": [*self._cameras]},
            }),
            "incremental-jobs": ("IncrementalLearningJob", {
                "models": [learned], "train": {"newSamples": NEW_SAMPLES}, "evaluation": {"heldOut": HELD_OUT},
                "gate": {"leastSupport": 1, "margin": -0.5, "floor": 0.5}, "stepDeadlineSeconds": 60,
            }),
        }  # fmt: skip
        return [(plural, {"kind": kind, "metadata": {"name": SERVICE}, "spec": spec})
                for plural, (kind, spec) in specs.items()]  # fmt: skip

    async def _retry(self, request: Callable[[], Awaitable[T]]) -> T:
        return await until_answered(request, self._world)


def _unfinished(evidence: LearningEvidence) -> list[str]:
    (loop,) = evidence.loops
    found = []
    if loop.open:
        found.append(f"{loop.open} samples wait for a label")
    if loop.state.step != "waiting":
        found.append(f"round {loop.state.round} is {loop.state.step}")
    elif waiting := len(loop.waiting) + waiting_in_shards(loop.state):
        found.append(f"{waiting} labelled samples wait for a training")
    found += [f"{edge} to answer with {named[:12]}, not {evidence.serving[edge][:12]}"
              for edge, named in evidence.named.items() if evidence.serving[edge] != named]  # fmt: skip
    return found


def _waits_for_more(evidence: LearningEvidence) -> bool:
    (loop,) = evidence.loops
    waiting = len(loop.waiting) + waiting_in_shards(loop.state)
    return loop.state.step == "waiting" and not loop.open and 0 < waiting < NEW_SAMPLES


async def _entries(bus: Bus, bucket: str, prefix: str) -> list[tuple[str, bytes]]:
    return [(each.key, each.value) for each in await (await bus.kv(bucket)).entries(prefix)]


async def _passed(bus: Bus) -> set[str]:
    """Return the digests of the candidates that a gate has passed."""
    found: set[str] = set()
    newest = await bus.last_sequence(VERDICT.stream_name)
    if not newest:
        return found
    async with bus.consume(VERDICT.filter()) as messages:
        async for message in messages:
            report = VERDICT.validate(decode(message.body, message.topic).data, message.topic)
            if report.figures.decision == "passes":
                found.add(report.candidate)
            if message.sequence >= newest:
                break
    return found


def _ids(stored: bytes) -> list[str]:
    text = stored.hex()
    return [text[at : at + 2 * _ID_BYTES] for at in range(0, len(text), 2 * _ID_BYTES)]
