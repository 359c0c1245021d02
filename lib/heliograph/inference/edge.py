"""``JointInference``: the edge's model in the user's own process, or served by a worker to every device of the node.

    from heliograph import JointInference

    digits = JointInference("digits", edge=model)
    answer = digits.infer(x, deadline=0.2)      # answer.result, .scores, .by, .degraded
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from heliograph import session
from heliograph.bus.contract.payloads import InferenceSpec
from heliograph.bus.contract.resources.base import Scalar
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.names import require_label
from heliograph.core.world import World
from heliograph.inference.background import LoopThread
from heliograph.inference.inputs import array_in
from heliograph.inference.scoring import best, scorer_for
from heliograph.inference.shallow import Answer, Judged, Shallow

if TYPE_CHECKING:
    from heliograph.bus.transport import Bus
    from heliograph.inference.offload import Offloader
    from heliograph.inference.serving import Asked, Serving

NODE = "mqtt://127.0.0.1:1883"
"""Where a node's broker listens where nothing else is said: KubeEdge's mosquitto."""


class JointInference:
    """A shallow model here, a deep one in the cloud, one answer.

    Args:
        name: the service, a DNS label; the deep model of that name is asked.
        edge: a torch.nn.Module, a Keras model, an estimator with ``predict_proba``, or a function that takes a batch
            (samples × ...) and returns a row of scores for each sample.
        rule: which scores are not good enough; ``rule_parameters`` are its keyword arguments.
        deadline: seconds of a request that brings none of its own.
        fallback: what a hard sample gets that the cloud did not answer in time: the edge's answer, marked as degraded,
            or an Unreachable.
        temperature: by which scores are calibrated before the rule sees them.
        before, after: make the edge model's input of a sample, and a result of scores (without it: the best class).
        micro_batch: served requests of one shape that waited together are scored together, up to so many.
        cloud: a deep model in this very process, a function as ``edge`` may be; without it the node's agent is asked.
        node: URL of the node's broker; HELIOGRAPH_NODE, or mqtt://127.0.0.1:1883.
    """

    def __init__(
        self,
        name: str,
        edge: object,
        *,
        rule: str = "threshold",
        deadline: float = 0.5,
        fallback: Literal["edge", "error"] = "edge",
        temperature: float = 1.0,
        requests_per_second: float | None = None,
        bytes_per_second: float | None = None,
        before: Callable[[Any], Any] | None = None,
        after: Callable[[Any], Any] | None = None,
        micro_batch: int = 1,
        cloud: object | None = None,
        node: str = "",
        root: str = DEFAULT_ROOT,
        **rule_parameters: Scalar,
    ) -> None:
        self.name = require_label(name, "name")
        self._world = World()
        self._model = edge
        spec = InferenceSpec(
            rule=rule,
            rule_parameters=rule_parameters,
            temperature=temperature,
            deadline_seconds=deadline,
            requests_per_second=requests_per_second,
            bytes_per_second=bytes_per_second,
            fallback=fallback,
        )
        self._shallow = Shallow(name, edge, spec, self._world.monotonic, self._world.rng.random, before, after)
        self._after = after or best
        self._cloud = scorer_for(cloud, "cloud") if cloud is not None else None
        self._micro_batch = micro_batch
        self._node = node or os.environ.get("HELIOGRAPH_NODE", NODE)
        self._root = root
        self._thread: LoopThread | None = None
        self._bus: Bus | None = None
        self._offloader: Offloader | None = None

    @property
    def counts(self) -> Any:
        """What was answered so far; see ``heliograph.inference.counts.Counts``."""
        return self._shallow.counts

    def infer(self, x: Any, deadline: float | None = None) -> Answer:
        """One answer to one sample, within ``deadline`` seconds.

        Raises Refused where the deadline is not above 0, Unreachable where the fallback is ``error`` and the cloud did
        not answer in time; what the model raises goes through.
        """
        judged = self._shallow.judge(x, deadline)
        if not judged.hard:
            return self._shallow.edge_answer(judged)
        return self._background().run(self._settle(judged))

    async def ainfer(self, x: Any, deadline: float | None = None) -> Answer:
        """The same for a caller with an event loop."""
        judged = self._shallow.judge(x, deadline)
        if not judged.hard:
            return self._shallow.edge_answer(judged)
        settling = asyncio.run_coroutine_threadsafe(self._settle(judged), self._background().loop)
        return await asyncio.wrap_future(settling)

    def serve(self) -> None:
        """Answers every device of the node until the service ends. In a worker only."""
        serving = session.serving("edge")
        self._shallow.configure(serving.spec)
        serving.count(self._shallow.counts)
        serving.load(self._model)
        most, configure = self._micro_batch, self._shallow.configure
        while (batch := serving.next_waiting(most, 0.0, self._model, configure)) is not None:
            self._serve(serving, batch)

    def close(self) -> None:
        """Ends the connection to the node's broker."""
        if self._thread is not None:
            self._thread.run(self._disconnect())
            self._thread.close()
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self, serving: Serving, batch: list[Asked]) -> None:
        """Requests that waited together; where the model raises, each alone, so that the others do not pay."""
        samples = []
        for asked in batch:
            try:
                samples.append((asked, array_in(asked.tree, asked.topic)))
            except HeliographError as error:
                self._refuse(serving, asked, error)
        if not samples:
            return
        try:
            judged = self._shallow.judge_all([(x, asked.tree.get("deadline"), asked.at) for asked, x in samples])
        except Exception as error:  # the model's own: that request gets it, the worker lives
            if len(samples) == 1:
                self._refuse(serving, samples[0][0], error)
                return
            for asked, _ in samples:
                self._serve(serving, [asked])
            return
        for (asked, _), each in zip(samples, judged, strict=True):
            if each.hard:
                serving.hard(each.x, each.scores)
                serving.spawn(self._settle_for(serving, asked, each))
            else:
                serving.answer(asked, self._shallow.edge_answer(each))

    def _refuse(self, serving: Serving, asked: Asked, error: Exception) -> None:
        self._shallow.failed()
        serving.refuse(asked, error)

    async def _settle_for(self, serving: Serving, asked: Asked, judged: Judged) -> None:
        try:
            answer = await self._shallow.settle(judged, serving.offload)
        except HeliographError as error:
            serving.refuse(asked, error)
        else:
            serving.answer(asked, answer)

    def _background(self) -> LoopThread:
        if self._thread is None:
            self._thread = LoopThread(f"inference-{self.name}")
        return self._thread

    async def _settle(self, judged: Judged) -> Answer:
        return await self._shallow.settle(judged, self._ask_here if self._cloud is not None else self._ask)

    async def _ask(self, body: bytes, seconds: float) -> dict[str, Any]:
        if self._offloader is None:
            from heliograph.bus.connect import connect
            from heliograph.inference.offload import Offloader

            client = f"app-{self._world.new_id()[:12]}"
            self._bus = connect(self._node, root=self._root, world=self._world, name=client)
            self._offloader = Offloader(self._bus, self.name, client, self._world.telemetry)
            await self._bus.open()  # last: who calls meanwhile finds the offloader, and waits for the link
        return await self._offloader.ask(body, seconds)

    async def _ask_here(self, body: bytes, seconds: float) -> dict[str, Any]:
        from heliograph.bus.contract.event import parse
        from heliograph.inference.inputs import request_in

        assert self._cloud is not None
        x = array_in(request_in(parse(body, self.name), self.name), self.name)
        try:
            scores = self._cloud(x[np.newaxis])[0]
        except Exception as error:
            raise Unreachable(f"service {self.name}: the cloud's model: {type(error).__name__}: {error}") from None
        return {"result": self._after(scores), "scores": scores}

    async def _disconnect(self) -> None:
        if self._offloader is not None:
            await self._offloader.close()
        if self._bus is not None:
            await self._bus.close()


__all__ = ["Answer", "JointInference", "Refused"]
