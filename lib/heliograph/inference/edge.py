"""``JointInference``: the edge's model, used in the user's own process or served by a worker to the node's devices.

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
from heliograph.core.loop_thread import LoopThread
from heliograph.core.names import require_label
from heliograph.core.world import World
from heliograph.inference.inputs import array_in
from heliograph.inference.scoring import best_class, scorer_for
from heliograph.inference.shallow import Answer, Judged, Shallow

if TYPE_CHECKING:
    from heliograph.bus.transport import Bus
    from heliograph.inference.offload import Offloader
    from heliograph.inference.serving import PendingRequest, Serving

NODE = "mqtt://127.0.0.1:1883"
"""Default URL of a node's broker: KubeEdge's mosquitto."""


class JointInference:
    """A shallow model in this process and a deep model in the cloud that answer together.

    The shallow model scores each sample. A hard-sample rule decides on the scores whether to ask the deep model.

    Args:
        name: the service's name, a DNS label; hard samples go to the deep model of this service.
        edge: a torch.nn.Module, a Keras model, an estimator with ``predict_proba``, or a function that takes a batch
            (samples × ...) and returns one row of scores for each sample.
        rule: name of the hard-sample rule; ``rule_parameters`` are its keyword arguments.
        deadline: default time for an answer, in seconds, more than 0.
        fallback: answer to a hard sample that the cloud did not answer in time: ``edge`` gives the edge's answer
            marked as degraded, ``error`` raises Unreachable.
        temperature: temperature that calibrates the scores before the rule sees them (Guo et al. 2017).
        requests_per_second, bytes_per_second: offload budget; None sets no limit.
        before: makes the edge model's input from one sample; without it the sample itself.
        after: makes the result from one row of scores; without it the index of the highest score.
        micro_batch: largest number of waiting requests of one shape that ``serve`` scores together.
        cloud: a deep model in this process, of the same kinds as ``edge``; without it the node's agent asks the cloud.
        node: URL of the node's broker; by default HELIOGRAPH_NODE, or else mqtt://127.0.0.1:1883.
        root: first words of every topic.

    Raises:
        Refused: if the name is no DNS label, a model is of none of these kinds, the rule or one of its parameters is
            unknown, or a value is out of its range.
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
        self._after = after or best_class
        self._cloud = scorer_for(cloud, "cloud") if cloud is not None else None
        self._micro_batch = micro_batch
        self._node = node or os.environ.get("HELIOGRAPH_NODE", NODE)
        self._root = root
        self._thread: LoopThread | None = None
        self._bus: Bus | None = None
        self._offloader: Offloader | None = None

    @property
    def counts(self) -> Any:
        """Counts of the answers so far; see ``heliograph.inference.counts.Counts``."""
        return self._shallow.counts

    def infer(self, x: Any, deadline: float | None = None) -> Answer:
        """Answer one sample, with no batch dimension, within ``deadline`` seconds (by default the service's).

        Returns:
            The result, the scores, ``by`` ("edge" or "cloud"), ``degraded``, and the seconds taken.

        Raises:
            Refused: if the deadline is not above 0.
            Unreachable: if the sample is hard, the cloud did not answer in time and the fallback is ``error``.

        Errors of the model, ``before`` and ``after`` propagate.
        """
        judged = self._shallow.judge(x, deadline)
        if not judged.hard:
            return self._shallow.edge_answer(judged)
        return self._background().run(self._settle(judged))

    async def ainfer(self, x: Any, deadline: float | None = None) -> Answer:
        """Answer one sample as ``infer`` does, for a caller in an event loop."""
        judged = self._shallow.judge(x, deadline)
        if not judged.hard:
            return self._shallow.edge_answer(judged)
        settling = asyncio.run_coroutine_threadsafe(self._settle(judged), self._background().loop)
        return await asyncio.wrap_future(settling)

    def serve(self) -> None:
        """Answer the devices of the node until the service ends.

        Raises:
            Refused: outside a worker of a JointInferenceService's edgeWorker.
        """
        serving = session.serving("edge")
        self._shallow.configure(serving.spec)
        serving.use_counts(self._shallow.counts)
        serving.load_initial(self._model)
        most, configure = self._micro_batch, self._shallow.configure
        while (batch := serving.next_waiting(most, 0.0, self._model, configure)) is not None:
            self._serve_batch(serving, batch)

    def close(self) -> None:
        """Close the connection to the node's broker."""
        if self._thread is not None:
            self._thread.run(self._disconnect())
            self._thread.close()
            self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve_batch(self, serving: Serving, batch: list[PendingRequest]) -> None:
        """Answer requests that waited together; score each alone where the model fails on the batch."""
        samples = []
        for request in batch:
            try:
                samples.append((request, array_in(request.tree, request.topic)))
            except HeliographError as error:
                self._refuse(serving, request, error)
        if not samples:
            return
        try:
            judged = self._shallow.judge_all([(x, request.tree.get("deadline"), request.at) for request, x in samples])
        except Exception as error:  # the model's own error answers that request; the worker goes on
            if len(samples) == 1:
                self._refuse(serving, samples[0][0], error)
                return
            for request, _ in samples:
                self._serve_batch(serving, [request])
            return
        for (request, _), each in zip(samples, judged, strict=True):
            if each.hard:
                serving.publish_hard(each.x, each.scores)
                serving.spawn(self._settle_and_answer(serving, request, each))
            else:
                serving.answer(request, self._shallow.edge_answer(each))

    def _refuse(self, serving: Serving, request: PendingRequest, error: Exception) -> None:
        self._shallow.count_error()
        serving.refuse(request, error)

    async def _settle_and_answer(self, serving: Serving, request: PendingRequest, judged: Judged) -> None:
        try:
            answer = await self._shallow.settle(judged, serving.offload)
        except HeliographError as error:
            serving.refuse(request, error)
        else:
            serving.answer(request, answer)

    def _background(self) -> LoopThread:
        if self._thread is None:
            self._thread = LoopThread(f"inference-{self.name}")
        return self._thread

    async def _settle(self, judged: Judged) -> Answer:
        return await self._shallow.settle(judged, self._ask_local if self._cloud is not None else self._ask_node)

    async def _ask_node(self, body: bytes, seconds: float) -> dict[str, Any]:
        if self._offloader is None:
            from heliograph.bus.connect import connect
            from heliograph.inference.offload import Offloader

            client = f"app-{self._world.new_id()[:12]}"
            self._bus = connect(self._node, root=self._root, world=self._world, name=client)
            self._offloader = Offloader(self._bus, self.name, client, self._world.telemetry)
            await self._bus.open()  # last, so that concurrent callers find the offloader and wait for the link
        return await self._offloader.ask(body, seconds)

    async def _ask_local(self, body: bytes, seconds: float) -> dict[str, Any]:
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
