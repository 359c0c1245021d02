"""Between a script that serves a model and the worker it runs in: requests in, answers out, models and rules swapped.

The script's thread runs the model; topics and timers live in the worker's event loop, on the other side of a queue.
"""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract.payloads import InferenceSpec
from heliograph.core.errors import HeliographError, Refused, error_body
from heliograph.core.world import World
from heliograph.frameworks import adapter_for
from heliograph.inference.counts import Counts
from heliograph.inference.inputs import pack, plain, request_in

if TYPE_CHECKING:
    from heliograph.bus.transport import Message
    from heliograph.inference.shallow import Answer

MOST_WAITING = 1024
"""Requests that wait for the model; further ones are told so at once."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. ``at`` and ``until`` in monotonic seconds."""

    tree: dict[str, Any]
    topic: str
    reply_to: str
    correlation: bytes | None
    is_json: bool
    at: float
    until: float


@dataclass(frozen=True, slots=True)
class NewModel:
    """Weights that the script's model shall have from now on."""

    digest: str
    arrays: Mapping[str, Any]


Send = Callable[[list[tuple[Asked, bytes]]], Awaitable[None]]
Item = Asked | NewModel | InferenceSpec | None


class Serving:
    """Requests of one service, for the thread that runs its model.

    Args:
        send: publishes answers, in the loop.
        offload: asks the cloud's model; see ``Offloader.ask``.
        keep: publishes a hard sample with its scores, where an incremental job wants them.
        said: called with a line about trouble that no requester can be told.
    """

    def __init__(
        self,
        service: str,
        spec: InferenceSpec,
        loop: asyncio.AbstractEventLoop,
        world: World,
        send: Send,
        offload: Callable[[bytes, float], Awaitable[dict[str, Any]]] | None,
        said: Callable[[str], None],
        keep: Callable[[Any, Any], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._keep = keep
        self.service = service
        self.spec = spec
        self.offload = offload
        self.counts = Counts()
        self.model = ""
        """Digest of the weights that answer; empty while they are the script's own."""
        self.trouble = ""
        self.admit: Callable[[int, int, float], bool] = lambda waiting, most, deadline: True
        self._loop = loop
        self._world = world
        self._send = send
        self._said = said
        self._inbox: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._answers: list[tuple[Asked, bytes]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._ahead: Item = None
        self._busy = False

    # the loop's side

    def take(self, message: Message, tree: object, reply_to: str) -> None:
        """A request came, and what it holds; one that is none, or can not be answered in time, is refused at once."""
        now = self._world.monotonic()
        asked = Asked({}, message.topic, reply_to, message.correlation, message.body[:1] == b"{", now, now)
        try:
            asked_for = request_in(tree, message.topic)
            deadline = float(asked_for.get("deadline") or self.spec.deadline_seconds)
            waiting = self._inbox.qsize()
            if waiting >= MOST_WAITING or not self.admit(waiting, self.spec.max_batch, deadline):
                raise Refused("overloaded", topic=message.topic, expected=f"an answer within {deadline:g} s",
                              got=f"{waiting} requests before it")  # fmt: skip
        except Refused as error:
            self.counts.errors += 1
            self._publish([(asked, _error_body(asked, error))])
            return
        until = now + deadline
        self._inbox.put(Asked(asked_for, message.topic, reply_to, message.correlation, asked.is_json, now, until))

    def put(self, item: NewModel | InferenceSpec | None) -> None:
        """New weights, other settings, or the end."""
        self._inbox.put(item)

    # the script's side

    def count(self, counts: Counts) -> None:
        """The script's own counts are the ones that are reported."""
        self.counts = counts

    def load(self, model: object) -> None:
        """Before the first request: the weights that the service names, where they are there already."""
        try:
            first = self._inbox.get_nowait()
        except queue.Empty:
            return
        if isinstance(first, NewModel):
            self._swap(model, first)
        else:
            self._ahead = first

    def next(self, model: object, configure: Callable[[InferenceSpec], None] | None = None) -> Asked | None:
        """The next request; None at the end. What else comes between is done on the way."""
        while True:
            item, self._ahead = self._ahead or self._inbox.get(), None
            if item is None or isinstance(item, Asked):
                return item
            self._change(item, model, configure)

    def next_batch(self, model: object) -> list[Asked] | None:
        """The next requests, up to ``max_batch`` or until ``max_wait_seconds`` have gone; None at the end.

        It waits only where requests come close together: a lone one would pay for a company that does not come.
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
    ) -> list[Asked] | None:
        """The next request, and up to ``most`` with those that come within ``wait`` seconds; None at the end."""
        first = self.next(model, configure)
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
            if not isinstance(item, Asked):
                if item is None:
                    self._inbox.put(None)
                else:
                    self._ahead = item
                break
            batch.append(item)
        return batch

    def hard(self, x: Any, scores: Any) -> None:
        """The rule found a sample hard: told once, whoever answers it."""
        if self._keep is not None and self.spec.hard_samples_to is not None:
            self.spawn(self._keep(x, scores))

    def answer(self, asked: Asked, answer: Answer) -> None:
        """An answer of the edge's side goes to who asked."""
        tree = {"result": answer.result, "scores": answer.scores, "by": answer.by, "degraded": answer.degraded,
                "seconds": round(answer.seconds, 6)}  # fmt: skip
        self._later([(asked, self._body(asked, tree))])

    def answer_tree(self, asked: Asked, tree: Mapping[str, Any]) -> None:
        """An answer that goes with the next ``flush``."""
        self._answers.append((asked, self._body(asked, tree)))

    def flush(self) -> None:
        answers, self._answers = self._answers, []
        self._later(answers)

    def refuse(self, asked: Asked, error: Exception) -> None:
        """The requester gets the error; where it is the model's own, its kind and text."""
        if not isinstance(error, HeliographError):
            error = Refused("model-failed", topic=asked.topic, expected="an answer of the model",
                            got=f"{type(error).__name__}: {error}")  # fmt: skip
        self._later([(asked, _error_body(asked, error))])

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Runs in the loop, beside the model."""
        self._loop.call_soon_threadsafe(self._spawn, coroutine)

    def _change(
        self, item: NewModel | InferenceSpec, model: object, configure: Callable[[InferenceSpec], None] | None
    ) -> None:
        if isinstance(item, NewModel):
            self._swap(model, item)
            return
        try:
            if configure is not None:
                configure(item)
        except Refused as error:
            self.trouble = str(error)
            self._said(f"the settings before stay: {error}")
        else:
            self.spec = item
            self.trouble = ""

    def _swap(self, model: object, new: NewModel) -> None:
        try:
            adapter_for(model).set(new.arrays)
        except Exception as error:  # also a framework's own: the old weights keep serving
            self.trouble = f"model {new.digest[:12]}: {error}"
            self._said(f"the model before keeps serving: {self.trouble}")
        else:
            self.model, self.trouble = new.digest, ""

    def _body(self, asked: Asked, tree: Mapping[str, Any]) -> bytes:
        try:
            return _encoded(asked, tree)
        except (TypeError, ValueError) as error:
            what = Refused("model-failed", topic=asked.topic, expected="a result that can travel", got=str(error))
            return _error_body(asked, what)

    def _later(self, answers: list[tuple[Asked, bytes]]) -> None:
        self._loop.call_soon_threadsafe(self._publish, answers)

    def _publish(self, answers: list[tuple[Asked, bytes]]) -> None:
        self._spawn(self._sent(answers))

    async def _sent(self, answers: list[tuple[Asked, bytes]]) -> None:
        try:
            await self._send(answers)
        except HeliographError as error:
            self._said(f"{len(answers)} answers were lost: {error}")

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _encoded(asked: Asked, tree: Mapping[str, Any]) -> bytes:
    if asked.is_json:
        return json.dumps(tree, default=plain, allow_nan=False).encode()
    return pack(tree)


def _error_body(asked: Asked, error: HeliographError) -> bytes:
    return _encoded(asked, {"error": error_body(error)})
