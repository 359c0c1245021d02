"""A labeller: claims tasks of a queue, keeps their leases while it thinks, and gives labels.

    async with AsyncClient() as client, Labeller(client, "digits", "anna") as labeller:
        async for task in labeller.tasks():
            await labeller.submit(task, "seven")

``label_with`` does so with a function: a model, an oracle, or a rule.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from hashlib import sha256
from typing import Any, Self

from heliograph.bus.contract.label_requests import Claimed, ClaimedTask, Proposed, SamplePart, Submitted
from heliograph.bus.contract.payloads import Annotation, Prediction, Result
from heliograph.bus.contract.payloads.labels import Source
from heliograph.bus.contract.resources.label_queue import LabelSchema
from heliograph.bus.contract.weights_header import INLINE
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.tasks import cancel_and_wait
from heliograph.core.world import World

AHEAD = 2
"""Tasks that are claimed at once, so that the next one is there when a label is given."""
RENEW_AT = 0.5
"""Share of a lease after which it is renewed."""
LOOK_AGAIN = 1.0
"""Seconds between two claims while there is nothing to label."""
Answer = Result | str | float | list[str] | None
"""A label: a class, a number, a text, several classes, or a result; None skips the task."""


class Labeller:
    """One labeller of one queue; an async context manager, which gives unfinished tasks back.

    Args:
        name: whoever labels; by default the login.
        source: ``human``, ``model`` or ``oracle``; an oracle's labels are ground truth.

    Attributes:
        label_schema: what labels look like; None before the first claim.
        waiting: tasks that nobody had claimed at the last claim.

    Raises (every method):
        Refused: naming the field; ``lease-expired`` where a label comes too late.
        Unreachable: if no answer comes within the client's timeout.
    """

    def __init__(
        self, client: AsyncClient, queue: str, name: str = "", source: Source = "human", world: World | None = None
    ) -> None:
        self._client = client
        self._queue = queue
        self._name = name
        self._source = source
        self._world = world or World()
        self._held: dict[str, ClaimedTask] = {}
        self._spans: dict[str, float] = {}
        """Seconds of each held lease."""
        self._renewing: asyncio.Task[None] | None = None
        self.label_schema: LabelSchema | None = None
        self.waiting = 0

    async def __aenter__(self) -> Self:
        self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._renewing is not None:
            await cancel_and_wait(self._renewing)
        for lease in [*self._held]:
            with contextlib.suppress(HeliographError):  # it ends by itself
                await self._ask("release", lease=lease)

    @property
    def held(self) -> int:
        """Number of tasks that it has claimed and not finished."""
        return len(self._held)

    async def claim(self, count: int = 1) -> list[ClaimedTask]:
        """Claim tasks; an empty list where there is none for this labeller now."""
        found = await self._ask("claim", labeller=self._name, source=self._source, count=count)
        claimed = Claimed.model_validate(found)
        self.label_schema, self.waiting = claimed.label_schema, claimed.waiting
        for each in claimed.tasks:
            self._held[each.lease] = each
            self._spans[each.lease] = max(0.1, _seconds(each.expires) - self._world.now())
        return [await self._whole(each) for each in claimed.tasks]

    async def _whole(self, claimed: ClaimedTask) -> ClaimedTask:
        """Return a claimed task with its sample, where that was too large for the answer."""
        data = claimed.task.data
        if data.inline is not None or data.size <= INLINE:
            return claimed
        content = bytearray()
        while len(content) < data.size:
            try:
                asked = await self._ask("sample", task=claimed.task.task, offset=len(content))
            except Refused as error:
                if error.code == "not-here":  # whoever labels may skip it
                    return claimed
                raise
            part = SamplePart.model_validate(asked)
            if not part.content or part.size != data.size:
                break
            content += part.content
        if sha256(content).hexdigest() != claimed.task.task:
            raise Refused("bad-sample", topic=f"task {claimed.task.task} of queue {self._queue}", field="content",
                          expected="bytes of that SHA-256", got=f"{len(content)} others",
                          hint="Skip the task; its sample is damaged.")  # fmt: skip
        whole = data.model_copy(update={"inline": bytes(content)})
        return claimed.model_copy(update={"task": claimed.task.model_copy(update={"data": whole})})

    async def tasks(self, *, follow: bool = False, ahead: int = AHEAD) -> AsyncIterator[ClaimedTask]:
        """Yield tasks until there is none for this labeller; with ``follow`` wait for further ones."""
        ready: list[ClaimedTask] = []
        while True:
            ready = [each for each in ready if each.lease in self._held] or await self.claim(ahead)
            if ready:
                yield ready.pop(0)
            elif follow:
                await self._world.sleep(LOOK_AGAIN)
            else:
                return

    async def submit(self, task: ClaimedTask, answer: Answer, **fields: Any) -> Annotation:
        """Give a label for a claimed task, and return it as it was stored.

        Args:
            fields: ``lead_time``, ``parent_prediction``, ``ground_truth``, ``labeller``, ``origin``.
        """
        result = self._result(answer).model_dump(mode="json", exclude_defaults=True)
        found = await self._ask("submit", lease=task.lease, task=task.task.task, result=result, **fields)
        self._let_go(task.lease)
        return Submitted.model_validate(found).annotation

    async def correct(self, label: Annotation, answer: Answer, **fields: Any) -> Annotation:
        """Replace an own label, and return the new one; ``fields`` as for ``submit``."""
        result = self._result(answer).model_dump(mode="json", exclude_defaults=True)
        found = await self._ask(
            "submit", task=label.task, labeller=label.labeller, result=result, supersedes=label.annotation, **fields
        )
        return Submitted.model_validate(found).annotation

    async def skip(self, task: ClaimedTask, reason: str = "", origin: str = "") -> None:
        """Pass over a task; it is not given to this labeller again."""
        await self._ask("skip", lease=task.lease, reason=reason, origin=origin)
        self._let_go(task.lease)

    async def release(self, task: ClaimedTask) -> None:
        """Give a task back."""
        await self._ask("release", lease=task.lease)
        self._let_go(task.lease)

    async def propose(self, task: ClaimedTask, model: str, answer: Answer, score: float) -> Proposed:
        """Add a model's prediction to a claimed task, which is given back: above the queue's calibrated bar it becomes
        a label, below it people see it."""
        await self.release(task)
        prediction = Prediction(model=model, score=score, result=self._result(answer))
        body = prediction.model_dump(mode="json", exclude_defaults=True)
        return Proposed.model_validate(await self._ask("propose", task=task.task.task, prediction=body))

    async def label_with(
        self, function: Callable[[ClaimedTask], Answer | Awaitable[Answer]], *, ahead: int = 16
    ) -> int:
        """Label every task that this labeller may have, by a function of the claimed task; return how many. The
        function's None skips a task."""
        number = 0
        async for task in self.tasks(ahead=ahead):
            answer = function(task)
            if isinstance(answer, Awaitable):
                answer = await answer
            if answer is None:
                await self.skip(task)
                continue
            await self.submit(task, answer)
            number += 1
        return number

    def _result(self, answer: Answer) -> Result:
        if isinstance(answer, Result):
            return answer
        if self.label_schema is None:
            raise Refused("bad-argument", field="answer", expected="a label after the first claim", got=answer)
        return Result(type=self.label_schema.type, value=answer)

    def _let_go(self, lease: str) -> None:
        self._held.pop(lease, None)
        self._spans.pop(lease, None)

    async def _ask(self, verb: str, **fields: Any) -> Any:
        return await self._client.labels.ask(verb, self._queue, **fields)

    async def _renew(self) -> None:
        """Renew held leases before they end, until cancelled."""
        while True:
            await self._world.sleep(min([1.0, *(due * RENEW_AT for due in self._spans.values())]))
            now = self._world.now()
            for lease in [lease for lease, each in self._held.items() if now >= self._renew_from(each)]:
                await self._renew_one(lease)

    def _renew_from(self, held: ClaimedTask) -> float:
        """Return the time from which a lease is renewed. The coordinator's clock wrote its end; this one may differ."""
        return _seconds(held.expires) - self._spans[held.lease] * (1 - RENEW_AT)

    async def _renew_one(self, lease: str) -> None:
        try:
            found = await self._ask("renew", lease=lease)
        except Refused:  # it has ended, or the task was labelled meanwhile
            self._let_go(lease)
        except HeliographError:  # asked again
            return
        else:
            if (held := self._held.get(lease)) is not None:
                self._held[lease] = held.model_copy(update={"expires": found["expires"]})


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
