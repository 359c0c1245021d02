"""The queue between a script that serves a model and its worker: requests, answers, new models and settings.

The script's thread runs the model. The worker's event loop, at the other end of the queue, has the topics and timers.
"""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract.payloads import InferenceSpec
from heliograph.core.errors import HeliographError, Refused, error_body
from heliograph.core.world import World
from heliograph.inference.counts import Counts
from heliograph.inference.health import Health
from heliograph.inference.inputs import pack, plain, request_in
from heliograph.inference.serving_queue import Change, NewCandidate, NewModel, PendingRequest
from heliograph.inference.versions import load_version

if TYPE_CHECKING:
    from heliograph.bus.transport import Message
    from heliograph.inference.answers import Answer

MAX_WAITING = 1024
"""Requests that may wait for the model; further ones are refused at once."""


Send = Callable[[list[tuple[PendingRequest, bytes]]], Awaitable[None]]
Item = PendingRequest | Change | None


class Serving:
    """The requests of one service, for the thread that runs its model.

    Args:
        send: publishes answers, in the loop.
        offload: asks the cloud's model; see ``Offloader.ask``.
        warn: called with a line about an error that concerns no single request.
        hard_sample: publishes a hard sample with its scores and the deep model's answer, for learning and labelling.
    """

    def __init__(
        self,
        service: str,
        spec: InferenceSpec,
        loop: asyncio.AbstractEventLoop,
        world: World,
        send: Send,
        offload: Callable[[bytes, float], Awaitable[dict[str, Any]]] | None,
        warn: Callable[[str], None],
        hard_sample: Callable[[Any, Any, Answer | None], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._hard_sample = hard_sample
        self.service = service
        self.spec = spec
        self.offload = offload
        self.counts = Counts()
        self.model = ""
        """Digest of the serving weights; empty while they are the script's own."""
        self.salt = ""
        """With which the requests of a candidate are chosen."""
        self.answered: PendingRequest | None = None
        """The last request that was answered: another version is tried with it."""
        self.on_classes: Callable[[Sequence[str]], None] = _no_classes
        """Takes the names of the classes of weights that have been loaded; called in the script's thread."""
        self.on_candidate: Callable[[NewCandidate], None] = _no_candidate
        """Takes a candidate, or its end; called in the script's thread. Its errors are told, and cost no request."""
        self.health = Health(service, warn)
        self.admit: Callable[[int, int, float], bool] = lambda waiting, most, deadline: True
        self._loop = loop
        self._world = world
        self._send = send
        self._warn = warn
        self._inbox: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._answers: list[tuple[PendingRequest, bytes]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._peeked: Item = None
        self._busy = False

    # called by the worker's event loop

    def receive(self, message: Message, tree: object, reply_to: str) -> None:
        """Queue a request, parsed as ``tree``; refuse it at once if it is invalid or cannot be answered in time."""
        now = self._world.monotonic()
        request = PendingRequest({}, message.topic, reply_to, message.correlation, message.body[:1] == b"{", now, now,
                                 message.body)  # fmt: skip
        try:
            fields = request_in(tree, message.topic)
            deadline = float(fields.get("deadline") or self.spec.deadline_seconds)
            waiting = self._inbox.qsize()
            if waiting >= MAX_WAITING or not self.admit(waiting, self.spec.max_batch, deadline):
                raise Refused("overloaded", topic=message.topic, expected=f"an answer within {deadline:g} s",
                              got=f"{waiting} requests before it")  # fmt: skip
        except Refused as error:
            self.counts.errors += 1
            self._publish([(request, _error_body(request, error))])
            return
        self._inbox.put(replace(request, tree=fields, until=now + deadline))

    def enqueue(self, item: Change | None) -> None:
        """Queue new weights, a candidate, new settings, or the end (None)."""
        self._inbox.put(item)

    # called by the script's thread

    def use_counts(self, counts: Counts) -> None:
        """Report the script's own counts."""
        self.counts = counts

    def load_initial(self, model: object) -> None:
        """Load the service's weights before the first request, if they have arrived."""
        try:
            first = self._inbox.get_nowait()
        except queue.Empty:
            return
        if isinstance(first, NewModel):
            self._swap(model, first)
        else:
            self._peeked = first

    def next_request(
        self, model: object, configure: Callable[[InferenceSpec], None] | None = None
    ) -> PendingRequest | None:
        """Return the next request, or None at the end; apply the weights and settings queued before it."""
        while True:
            item, self._peeked = self._peeked or self._inbox.get(), None
            if item is None or isinstance(item, PendingRequest):
                return item
            self._change(item, model, configure)

    def next_batch(self, model: object) -> list[PendingRequest] | None:
        """Return the next requests, up to ``max_batch`` of them or after ``max_wait_seconds``; None at the end.

        Wait only while requests come close together: a lone request must not wait for others that do not come.
        """
        batch = self.next_waiting(self.spec.max_batch, self.spec.max_wait_seconds if self._busy else 0.0, model)
        self._busy = batch is not None and len(batch) > 1
        return batch

    def next_waiting(
        self,
        most: int,
        wait: float,
        model: object,
        configure: Callable[[InferenceSpec], None] | None = None,
    ) -> list[PendingRequest] | None:
        """Return up to ``most`` requests: the next one and others within ``wait`` seconds after it; None at the end."""
        first = self.next_request(model, configure)
        if first is None:
            return None
        batch = [first]
        until = self._world.monotonic() + wait
        while len(batch) < most:
            try:
                left = until - self._world.monotonic()
                item = self._inbox.get(timeout=left) if left > 0 else self._inbox.get_nowait()
            except queue.Empty:
                break
            if not isinstance(item, PendingRequest):
                if item is None:
                    self._inbox.put(None)
                else:
                    self._peeked = item
                break
            batch.append(item)
        return batch

    def publish_hard(self, x: Any, scores: Any, deep: Answer | None = None) -> None:
        """Publish a hard sample for the service's incremental learning job and its label queue, if it names one.

        Args:
            scores: what the edge's model said.
            deep: what the deep model answered.
        """
        if self._hard_sample is not None and self.spec.hard_samples_to is not None:
            self.spawn(self._hard_sample(x, scores, deep))

    def answer(self, request: PendingRequest, answer: Answer) -> None:
        """Send an answer of the edge's side to the requester."""
        tree = {"result": answer.result, "scores": answer.scores, "by": answer.by, "degraded": answer.degraded,
                "seconds": round(answer.seconds, 6)}  # fmt: skip
        if answer.version:
            tree["model"] = answer.version
        self.answered = request
        self._publish_soon([(request, self._body(request, tree))])

    def queue_answer(self, request: PendingRequest, tree: Mapping[str, Any]) -> None:
        """Queue an answer for the next ``flush``."""
        self.answered = request
        self._answers.append((request, self._body(request, tree)))

    def flush(self) -> None:
        answers, self._answers = self._answers, []
        self._publish_soon(answers)

    def refuse(self, request: PendingRequest, error: Exception) -> None:
        """Answer a request with an error; an error of the model's own is sent by its kind and text."""
        if isinstance(error, Refused):
            error = error.about(request.topic)
        elif not isinstance(error, HeliographError):
            error = Refused("model-failed", topic=request.topic, expected="an answer of the model",
                            got=f"{type(error).__name__}: {error}")  # fmt: skip
        self._publish_soon([(request, _error_body(request, error))])

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the worker's event loop, beside the model."""
        self._loop.call_soon_threadsafe(self._spawn, coroutine)

    def _change(
        self, item: Change, model: object, configure: Callable[[InferenceSpec], None] | None
    ) -> None:
        if isinstance(item, NewModel):
            self._swap(model, item)
            return
        if isinstance(item, NewCandidate):
            self._try(item)
            return
        try:
            if configure is not None:
                configure(item)
        except Refused as error:
            self.health.settings_failed(error)
        else:
            self.spec = item
            self.health.settings_set()

    def _swap(self, model: object, new: NewModel) -> None:
        try:
            load_version(model, new.arrays)
            self.on_classes(new.classes)
        except Exception as error:  # any error, a framework's own too, leaves the previous weights serving
            self.health.weights_failed(new.digest, error)
        else:
            self.model = new.digest
            self.health.weights_set()

    def _try(self, new: NewCandidate) -> None:
        if new.rejected:
            self.counts.of(new.digest).rejected += 1
            self.health.candidate_failed(new.digest, Refused("failed-trial", field="candidate", got=new.rejected,
                                                             expected="a version that answers"))  # fmt: skip
            return
        try:
            self.on_candidate(new)
        except Exception as error:  # any error, a framework's own too: the candidate gets no request
            self.health.candidate_failed(new.digest, error)
        else:
            self.salt = new.salt
            self.health.candidate_set()

    def _body(self, request: PendingRequest, tree: Mapping[str, Any]) -> bytes:
        try:
            return _encode(request, tree)
        except (TypeError, ValueError) as error:
            refusal = Refused("model-failed", topic=request.topic, expected="a result that can be sent", got=str(error))
            return _error_body(request, refusal)

    def _publish_soon(self, answers: list[tuple[PendingRequest, bytes]]) -> None:
        self._loop.call_soon_threadsafe(self._publish, answers)

    def _publish(self, answers: list[tuple[PendingRequest, bytes]]) -> None:
        self._spawn(self._send_or_warn(answers))

    async def _send_or_warn(self, answers: list[tuple[PendingRequest, bytes]]) -> None:
        try:
            await self._send(answers)
        except HeliographError as error:
            self._warn(f"{len(answers)} answers were lost: {error}")

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _no_classes(names: Sequence[str]) -> None:
    """Leave the names of classes aside."""


def _no_candidate(new: NewCandidate) -> None:
    """Refuse a candidate: this side of the service tries none."""
    if new.digest:
        raise Refused("no-candidate", field="candidate", expected="a worker of the edge's side", got=new.digest[:12])


def _encode(request: PendingRequest, tree: Mapping[str, Any]) -> bytes:
    if request.is_json:
        return json.dumps(tree, default=plain, allow_nan=False).encode()
    return pack(tree)


def _error_body(request: PendingRequest, error: HeliographError) -> bytes:
    return _encode(request, {"error": error_body(error)})
