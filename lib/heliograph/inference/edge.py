"""``JointInference``: the edge's model, used in the user's own process or served by a worker to the node's devices.

    from heliograph import JointInference

    digits = JointInference("digits", edge=model)
    answer = digits.infer(x, deadline=0.2)      # answer.result, .scores, .by, .degraded
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from heliograph import session
from heliograph.bus.contract.payloads import InferenceSpec
from heliograph.bus.contract.resources.base import Scalar
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.core.errors import HeliographError, Refused, Unreachable
from heliograph.core.loop_thread import LoopThread
from heliograph.core.names import require_label
from heliograph.core.world import World
from heliograph.inference.answers import Answer, Candidate, Judged, Withheld
from heliograph.inference.cloud import BigModel, is_bad_input
from heliograph.inference.inputs import sample_in
from heliograph.inference.predictors import Meaning, predictor_for, reading_of
from heliograph.inference.shallow import Shallow
from heliograph.inference.versions import copy_with

if TYPE_CHECKING:
    from heliograph.bus.transport import Bus
    from heliograph.inference.offload import Offloader
    from heliograph.inference.serving import Serving
    from heliograph.inference.serving_queue import NewCandidate, PendingRequest

NODE = "mqtt://127.0.0.1:1883"
"""Default URL of a node's broker: KubeEdge's mosquitto."""


class JointInference:
    """A shallow model in this process and a deep model in the cloud that answer together.

    The shallow model scores each sample. A hard-sample rule decides on the scores whether to ask the deep model.

    Args:
        name: the service's name, a DNS label; hard samples go to the deep model of this service.
        edge: a torch.nn.Module, a Keras model, an estimator of scikit-learn's interface, or a function that takes a
            batch (samples × ...) and returns one row of scores, or one label, for each sample.
        rule: name of the hard-sample rule; ``rule_parameters`` are its keyword arguments.
        deadline: default time for an answer, in seconds, more than 0.
        fallback: answer to a hard sample that the cloud did not answer in time: ``edge`` gives the edge's answer
            marked as degraded, ``error`` raises Unreachable.
        temperature: temperature that calibrates the scores before the rule sees them (Guo et al. 2017).
        requests_per_second, bytes_per_second: offload budget; None sets no limit.
        classes: the label of each score, in their order; without it an estimator's ``classes_``, or else 0, 1, 2, …
        outputs: what the edge model's numbers are: ``probabilities``, ``logits`` (before a sigmoid or a softmax), or
            ``values`` (a regression, which has no classes and no scores). Without it the model tells; a model that
            gives one number for each sample and does not end with a sigmoid must say it.
        scores: takes the edge model's output of a batch and returns one row of scores for each sample; for a model that
            returns a mapping or a tuple, such as ``lambda output: output["logits"]``.
        before: makes the edge model's input from one sample; without it the sample itself.
        after: makes the result from one row of scores (from the label or the value of a model that gives those);
            without it the label of the highest score.
        redact: makes what may leave the node of a hard sample, offloaded or captured for labelling, from the sample:
            faces blurred, names cut out. None as its result, or an error, keeps the sample on the node. Without the
            hook the sample itself leaves.
        example: one sample; the model runs on it at once, so that its errors come here and the first sample is as fast
            as the others. Without it zeros of the model's input shape are tried.
        micro_batch: largest number of waiting requests of one shape that ``serve`` scores together.
        cloud: a deep model in this process: a BigModel, or a model of the same kinds as ``edge``, with its classes and
            hooks; without it the node's agent asks the cloud.
        node: URL of the node's broker; by default HELIOGRAPH_NODE, or else mqtt://127.0.0.1:1883.
        root: first words of every topic.

    The model is put into evaluation mode, and a sample into the type of the model's weights, on their device.

    Raises:
        Refused: if the name is no DNS label, a model is of none of these kinds, the rule or one of its parameters is
            unknown, or a value is out of its range.

    Errors of the model on ``example`` propagate.
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
        classes: Sequence[Any] | None = None,
        outputs: Meaning | None = None,
        scores: Callable[[Any], Any] | None = None,
        before: Callable[[Any], Any] | None = None,
        after: Callable[[Any], Any] | None = None,
        redact: Callable[[Any], Any] | None = None,
        example: Any = None,
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
        self._reading = reading_of(classes, outputs, scores, after)
        predictor = predictor_for(edge, "edge", self._reading)
        self._shallow = Shallow(name, predictor, spec, self._world.monotonic, self._world.rng.random, before, redact,
                                self._world.now)  # fmt: skip
        self._example = example
        self._cloud: BigModel | None = None
        if isinstance(cloud, BigModel):
            self._cloud = cloud
        elif cloud is not None:
            self._cloud = BigModel(name, cloud, classes=classes, outputs=outputs, scores=scores, after=after)
        self._micro_batch = micro_batch
        self._node = node or os.environ.get("HELIOGRAPH_NODE", NODE)
        self._root = root
        self._thread: LoopThread | None = None
        self._node_connection: tuple[Bus, Offloader] | None = None
        self._opened = False
        if not session.inference:  # a worker checks its model once its weights are there
            self._shallow.check(example)
            if cloud is None:
                self._connection()

    @property
    def counts(self) -> Any:
        """Counts of the answers so far; see ``heliograph.inference.counts.Counts``."""
        return self._shallow.counts

    def infer(self, x: Any, deadline: float | None = None) -> Answer:
        """Answer one sample, with no batch dimension, within ``deadline`` seconds (by default the service's).

        Returns:
            The result, the scores, ``by`` ("edge" or "cloud"), ``degraded``, and the seconds taken.

        ``x`` is an array, a tensor or a list of numbers; for an estimator also a text, or a mapping, a pandas Series or
        a DataFrame of one row with the columns that it was fitted on. NaN is refused; an estimator gets it.

        Raises:
            Refused: if the deadline is not above 0, the sample is none that the model takes, or the model's output
                needs an option to be read.
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
        settling = self._background().submit(self._settle(judged))
        return await asyncio.wrap_future(settling)

    def serve(self) -> None:
        """Answer the devices of the node until the service ends.

        Raises:
            Refused: outside a worker of a JointInferenceService's edgeWorker.
        """
        serving = session.serving("edge")
        self._shallow.configure(serving.spec)
        serving.use_counts(self._shallow.counts)
        serving.on_candidate = self._try
        serving.on_classes = self._shallow.name_classes
        serving.load_initial(self._model)
        serving.health.check(lambda: self._shallow.check(self._example))
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
                samples.append((request, sample_in(request.tree, request.topic)))
            except HeliographError as error:
                self._refuse(serving, request, error)
        if not samples:
            return
        self._shallow.version = serving.model
        asked = [(x, request.tree.get("deadline"), request.at) for request, x in samples]
        tried = self._shallow.candidate is not None
        places = [request.place(serving.salt) for request, _ in samples] if tried else ()
        try:
            judged = self._shallow.judge_all(asked, places)
        except Exception as error:  # the model's own error answers that request; the worker goes on
            if len(samples) == 1:
                self._refuse(serving, samples[0][0], error)
                return
            for request, _ in samples:
                self._serve_batch(serving, [request])
            return
        for (request, _), each in zip(samples, judged, strict=True):
            if each.prediction.failure is None:
                serving.health.model_worked()
            else:
                serving.health.model_failed(each.prediction.failure)
            if each.hard:
                serving.spawn(self._settle_and_answer(serving, request, each))
                continue
            try:
                serving.answer(request, self._shallow.edge_answer(each))
            except Refused as error:
                serving.refuse(request, error)

    def _try(self, new: NewCandidate) -> None:
        """Let another version answer some requests, on a copy of the model; without arrays end that."""
        self._shallow.candidate = None
        if not new.digest:
            return
        other = copy_with(self._model, new.arrays)
        predictor = predictor_for(other, "edge", self._reading)
        predictor.name_classes(new.classes)
        self._shallow.candidate = Candidate(new.digest, predictor, new.share)

    def _refuse(self, serving: Serving, request: PendingRequest, error: Exception) -> None:
        of_model = not is_bad_input(error)
        self._shallow.count_error(version=serving.model if of_model else "")
        if of_model:
            serving.health.model_failed(error)
        serving.refuse(request, error)

    async def _settle_and_answer(self, serving: Serving, request: PendingRequest, judged: Judged) -> None:
        deep = None
        try:
            answer = await self._shallow.settle(judged, serving.offload if serving.spec.offloads else None)
        except HeliographError as error:
            serving.refuse(request, error)
        else:
            serving.answer(request, answer)
            deep = answer if answer.by == "cloud" else None
        if not isinstance(judged.leaves, Withheld):
            serving.publish_hard(judged.leaves, judged.prediction.scores, deep)

    def _background(self) -> LoopThread:
        if self._thread is None:
            self._thread = LoopThread(f"inference-{self.name}")
        return self._thread

    async def _settle(self, judged: Judged) -> Answer:
        return await self._shallow.settle(judged, self._ask_local if self._cloud is not None else self._ask_node)

    async def _ask_node(self, body: bytes, seconds: float) -> dict[str, Any]:
        bus, offloader = self._connection()
        if not self._opened:
            self._opened = True  # first, so that concurrent callers wait for the link
            await bus.open()
        return await offloader.ask(body, seconds)

    def _connection(self) -> tuple[Bus, Offloader]:
        """Return the connection to the node's broker; the constructor makes it, since its imports take a while."""
        if self._node_connection is None:
            from heliograph.bus.connect import connect
            from heliograph.inference.offload import Offloader

            client = f"app-{self._world.new_id()[:12]}"
            bus = connect(self._node, root=self._root, world=self._world, name=client)
            self._node_connection = bus, Offloader(bus, self.name, client, self._world.telemetry)
        return self._node_connection

    async def _ask_local(self, body: bytes, seconds: float) -> dict[str, Any]:
        from heliograph.bus.contract.event import parse
        from heliograph.inference.inputs import request_in

        assert self._cloud is not None
        x = sample_in(request_in(parse(body, self.name), self.name), self.name)
        try:
            result, scores = self._cloud.infer(x)
        except Exception as error:
            raise Unreachable(f"service {self.name}: the cloud's model: {type(error).__name__}: {error}") from None
        return {"result": result, "scores": scores}

    async def _disconnect(self) -> None:
        if self._opened and self._node_connection is not None:
            bus, offloader = self._node_connection
            self._opened, self._node_connection = False, None
            await offloader.close()
            await bus.close()


__all__ = ["Answer", "JointInference", "Refused"]
