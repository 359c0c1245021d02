"""The tasks of one queue, in memory and in a key-value bucket, written by compare-and-set.

Open tasks are held whole, settled ones as a summary. One process at a time has a queue: the coordinator that leads, or
the agent of an edge.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from heliograph.bus.contract.payloads import Annotation, LabelTask
from heliograph.bus.contract.resources.label_queue import LabelQueueSpec
from heliograph.bus.contract.weights_header import INLINE
from heliograph.bus.transport import KeyValue, KeyValueEntry
from heliograph.core.errors import Conflict, Refused
from heliograph.core.world import World
from heliograph.labelling import task_state
from heliograph.labelling.acceptance import bar_of, is_held_out
from heliograph.labelling.results import comparable, same_result
from heliograph.labelling.task_state import TaskState

TOLD = "told"
"""Key of the number up to which every label has been published."""
ENDED_KNOWN = 4096
"""Leases that have ended and are remembered, so that a repeated label is recognised and a late one told why."""


@dataclass(slots=True)
class Summary:
    """What remains in memory of a settled task, and what agreement reads of any.

    Attributes:
        labels: by labeller, the comparable part of its standing label.
        held_out: score of the last prediction and whether it was right, of a held-out task that people labelled.
    """

    number: int
    phase: str = "open"
    settled_at: float = 0.0
    labels: dict[str, Hashable] = field(default_factory=dict)
    held_out: tuple[float, bool] | None = None


@dataclass(slots=True)
class OpenTask:
    """A task's state, with the revision of its record."""

    state: TaskState
    revision: int


class TaskIndex:
    """The tasks of one queue, as ``TaskQueue`` decides on them.

    Args:
        uid: the queue's uid, the first word of its keys.
        tasks, samples: buckets for the tasks' states, and for the samples.
        changed: called when a count has changed.

    Attributes:
        summaries: by task, in the order in which they came.
        open: open tasks.
        free: open tasks that need a labeller now, in the order in which they became free.
    """

    def __init__(
        self, job: str, uid: str, spec: LabelQueueSpec, tasks: KeyValue, samples: KeyValue, world: World,
        changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self.spec = spec
        self.summaries: dict[str, Summary] = {}
        self.open: dict[str, OpenTask] = {}
        self.free: dict[str, None] = {}
        self.changed = changed
        self._job = job
        self._uid = uid
        self._tasks = tasks
        self._samples = samples
        self._world = world
        self._later: dict[str, None] = {}
        self._openings: list[tuple[float, str]] = []
        """Heap of the tasks that open later."""
        self._leases: dict[str, str] = {}
        """Lease to task."""
        self._expiries: list[tuple[float, str, str]] = []
        """Heap of lease ends; an entry of a lease that was renewed or has ended says nothing."""
        self._looked = 0.0
        """Newest time at which leases were looked at."""
        self._ended: OrderedDict[str, str | Annotation] = OrderedDict()
        self._bar: tuple[int, float | None] | None = None
        self._held_out_known = 0

    @property
    def later(self) -> int:
        """Number of tasks that open with a later batch."""
        return len(self._later)

    @property
    def leased(self) -> int:
        """Number of open tasks under a lease."""
        return len(set(self._leases.values()))

    @property
    def bar(self) -> float | None:
        """Confidence from which predictions become labels; None while it is not known."""
        if self.spec.proposals is None:
            return None
        if self._bar is None or self._bar[0] != self._held_out_known:
            known = [each.held_out for each in self.summaries.values() if each.held_out is not None]
            self._bar = self._held_out_known, bar_of(known, self.spec.proposals)
        return self._bar[1]

    def load(self, entries: Iterable[KeyValueEntry]) -> tuple[list[TaskState], int, list[str]]:
        """Take over the stored tasks. Return them in order, the number up to which labels have been published, and a
        line for each task that cannot be read; it stays where it is."""
        unreadable, found, told = [], [], 0
        for entry in entries:
            if entry.key == self._key(TOLD):
                told = int(entry.value) if entry.value.isdigit() else 0
                continue
            try:
                found.append((TaskState.from_json(entry.value), entry.revision))
            except ValidationError as error:
                unreadable.append(f"task {entry.key} of queue {self._job}: unreadable ({error.error_count()} errors)")
        found.sort(key=lambda each: each[0].number)
        for state, revision in found:
            self.remember(state, revision)
            for label in state.labels:
                self.end(label.lease, label.annotation)
        self._set_back(self._world.now())  # the clock may have been ahead when they were stored
        return [state for state, _ in found], told, unreadable

    def follow(self, spec: LabelQueueSpec) -> None:
        """Take over a changed specification. What is settled stays as it is."""
        if spec != self.spec:
            self.spec = spec
            self._held_out_known += 1  # the bar is computed anew
            for each in self.open.values():
                self._place(each.state)

    def reserve(self, state: TaskState) -> None:
        """Take note of a new task that is about to be stored: the same sample may come again meanwhile."""
        self.summaries[state.task.task] = Summary(state.number)

    async def create_all(self, states: Sequence[TaskState], contents: Sequence[bytes]) -> None:
        """Store new tasks and their samples. Raise Conflict where another process has stored one of them."""
        keys = [self._key(state.task.task) for state in states]
        try:
            await self._samples.create_all(dict(zip(keys, contents, strict=True)))
            revisions = await self._tasks.create_all(dict(zip(keys, map(packed, states), strict=True)))
        except BaseException:
            for state in states:
                self.summaries.pop(state.task.task, None)
            raise
        for key, state in zip(keys, states, strict=True):
            self.remember(state, revisions[key])

    async def create(self, state: TaskState, content: bytes | None) -> bool:
        """Store a new task and its sample. Return False where another process has stored it."""
        task = state.task.task
        try:
            if content is not None:
                await self._samples.put(self._key(task), content)
            revision = await self._tasks.put(self._key(task), packed(state), 0)
        except Conflict:
            await self._reread(task)
            return False
        except BaseException:
            self.summaries.pop(task, None)
            raise
        self.remember(state, revision)
        return True

    def discard(self, task: str) -> None:
        """Forget a task that could not be stored."""
        self.summaries.pop(task, None)
        self.free.pop(task, None)
        self.open.pop(task, None)
        self.changed()

    async def note_told(self, number: int) -> None:
        """Store the number up to which labels have been published."""
        await self._tasks.put(self._key(TOLD), str(number).encode())

    async def delete(self, task: str) -> None:
        """Delete a task and its sample."""
        await self._tasks.delete(self._key(task))
        await self._samples.delete(self._key(task))
        self.summaries.pop(task, None)
        self.changed()

    def _key(self, task: str) -> str:
        return f"{self._uid}.{task}"

    async def store(self, state: TaskState, revision: int | None = None) -> None:
        """Store a task's next state. Raise Conflict where another process has written it, whose state is taken over."""
        task = state.task.task
        known = self.open[task].revision if revision is None else revision
        try:
            written = await self._tasks.put(self._key(task), packed(state), known)
        except Conflict:
            await self._reread(task)
            raise
        self.remember(state, written)

    async def _reread(self, task: str) -> None:
        entry = await self._tasks.get(self._key(task))
        if entry is not None:
            self.remember(TaskState.from_json(entry.value), entry.revision)

    async def state(self, task: str) -> tuple[TaskState, int]:
        """Return a task's state and revision. Raise Refused where the queue has no such task."""
        if (found := self.open.get(task)) is not None:
            return found.state, found.revision
        entry = await self._tasks.get(self._key(task)) if task in self.summaries else None
        if entry is None:
            raise Refused("unknown-task", field="task", expected=f"a task of queue {self._job}", got=task,
                          hint="List them by request/labels/tasks.")  # fmt: skip
        return TaskState.from_json(entry.value), entry.revision

    async def found(self, task: str) -> TaskState | None:
        """Return a task's state; None where it was deleted meanwhile, or is damaged."""
        try:
            return (await self.state(task))[0]
        except (Refused, ValidationError):
            return None

    async def with_sample(self, task: LabelTask) -> LabelTask:
        """Return a task with its sample in it, where the sample is there and small enough for an answer."""
        content = await self.sample(task.task) if task.data.size <= INLINE else None
        return task.model_copy(update={"data": task.data.model_copy(update={"inline": content})})

    async def sample(self, task: str) -> bytes | None:
        """Return a task's sample; None where it is not here."""
        entry = await self._samples.get(self._key(task))
        return entry.value if entry is not None else None

    def remember(self, state: TaskState, revision: int) -> None:
        """Take over a task's stored state."""
        task = state.task.task
        summary = self.summaries.setdefault(task, Summary(state.number))
        summary.phase, summary.settled_at = state.phase, state.settled_at
        summary.labels = {each.labeller: comparable(each.result) for each in state.standing if each.result is not None}
        if (held_out := self._held_out(state)) != summary.held_out:
            summary.held_out = held_out
            self._held_out_known += 1
        before = self.open.get(task)
        for lease in before.state.leases if before is not None else ():
            self._leases.pop(lease.id, None)
        if state.phase == "open":
            self.open[task] = OpenTask(state, revision)
            for lease in state.leases:
                self._leases[lease.id] = task
                heapq.heappush(self._expiries, (lease.expires, lease.id, task))
            self._place(state)
        else:
            self.open.pop(task, None)
            self.free.pop(task, None)
        self.changed()

    def _place(self, state: TaskState) -> None:
        """Put a task where it can be claimed, now or later, or take it away from there."""
        task = state.task.task
        if state.opens > self._world.now():
            if task not in self._later:
                self._later[task] = None
                heapq.heappush(self._openings, (state.opens, task))
        elif task_state.needed(state, self.spec) > 0:
            self.free.setdefault(task)
        else:
            self.free.pop(task, None)

    def let_in(self, now: float) -> None:
        """Free the tasks whose leases have ended, and those whose batch has opened."""
        if now < self._looked:
            self._set_back(now)
        self._looked = now
        while self._expiries and self._expiries[0][0] <= now:
            _, lease, task = heapq.heappop(self._expiries)
            found = self.open.get(task)
            if found is None:
                continue
            held = found.state.lease_of(lease)
            if held is not None and held.expires <= now:
                found.state = task_state.released(found.state, lease)
                self._leases.pop(lease, None)
                self.end(lease, "ended")
                self._place(found.state)
                self.changed()
        while self._openings and self._openings[0][0] <= now:
            _, task = heapq.heappop(self._openings)
            self._later.pop(task, None)
            if task in self.open:
                self._place(self.open[task].state)
                self.changed()

    def _set_back(self, now: float) -> None:
        """End leases that were given by a clock which was ahead no later than those that are given now."""
        latest = now + self.spec.lease_seconds
        for task in dict.fromkeys(self._leases.values()):
            found = self.open[task]
            state = task_state.with_present_clock(found.state, latest)
            if state is not found.state:
                found.state = state
                for lease in state.leases:
                    heapq.heappush(self._expiries, (lease.expires, lease.id, task))

    def task_of(self, lease: str, now: float) -> str:
        """Return the task of a lease that holds. Raise Refused for any other."""
        self.let_in(now)
        if (task := self._leases.get(lease)) is not None:
            return task
        ended = self._ended.get(lease)
        if isinstance(ended, Annotation):
            raise Refused("lease-used", field="lease", expected="a lease without a label", got=lease,
                          hint=f"To replace the label, submit with supersedes {ended.annotation}.")  # fmt: skip
        if ended is not None:
            raise Refused("lease-expired", field="lease", expected="a lease that holds", got=f"{lease}, which {ended}",
                          hint="Claim a task again; renew a lease before it ends.")  # fmt: skip
        raise Refused("unknown-lease", field="lease", expected="a lease that claim gave and that holds", got=lease,
                      hint="Claim a task again.")  # fmt: skip

    def ended(self, lease: str) -> str | Annotation | None:
        """Return how a lease has ended, as far as it is remembered: in words, or the label that came under it."""
        return self._ended.get(lease)

    def end(self, lease: str, how: str | Annotation) -> None:
        """Remember how a lease has ended."""
        if lease:
            self._ended[lease] = how
            if len(self._ended) > ENDED_KNOWN:
                self._ended.popitem(last=False)

    def _held_out(self, state: TaskState) -> tuple[float, bool] | None:
        """Return confidence and success of the last prediction of a held-out task that people have settled."""
        proposals = self.spec.proposals
        if proposals is None or state.consensus is None or not state.task.predictions:
            return None
        said = state.task.predictions[-1]
        score = said.score if said.score is not None else said.result.score
        by_people = any(each.source != "model" for each in state.standing)
        if score is None or not by_people or not is_held_out(state.task.task, proposals.held_out):
            return None
        return score, same_result(said.result, state.consensus, self.spec.label_schema)


def packed(state: TaskState) -> bytes:
    """Return a task's state as it is stored."""
    return state.model_dump_json(exclude_defaults=True).encode()
