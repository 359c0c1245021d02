"""The labels of a queue: stored with their tasks first, then published, and published again where a fault left them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from heliograph.bus.contract.payloads import Annotation, LabelTask
from heliograph.core.world import World
from heliograph.labelling import task_state
from heliograph.labelling.agreement import LabellerModel
from heliograph.labelling.task_index import TaskIndex
from heliograph.labelling.task_state import StoredLabel, TaskState

Publish = Callable[[Sequence[LabelTask] | Sequence[Annotation]], Awaitable[None]]


@dataclass(slots=True)
class LabellerCount:
    """Counts of one labeller."""

    source: str = "human"
    labels: int = 0
    skipped: int = 0
    timed: int = 0
    seconds: float = 0.0


class LabelStore:
    """The labels of one queue.

    Args:
        publish: publishes labels; raises Unreachable where it cannot.

    Attributes:
        model: what is known of the labellers; the queue's owner replaces it.
        labellers: counts of each labeller.
    """

    def __init__(self, index: TaskIndex, world: World, publish: Publish) -> None:
        self.model = LabellerModel()
        self.labellers: dict[str, LabellerCount] = {}
        self._index = index
        self._world = world
        self._publish = publish
        self._newest = 0
        self._untold: dict[int, Annotation] = {}
        """Labels that are stored and not known to be published, by their number."""
        self._told = 0

    def load(self, states: Sequence[TaskState], told: int) -> None:
        """Take over the labels of stored tasks; those up to the number ``told`` have been published."""
        self._told = told
        for state in states:
            for label in state.labels:
                self._count(label.annotation)
                self._newest = max(self._newest, label.number)
                if label.number > told:
                    self._untold[label.number] = label.annotation

    async def add(
        self, state: TaskState, revision: int, annotation: Annotation, lease: str = "", login: str = ""
    ) -> Annotation:
        """Store a label, then publish it; return it as it was stored."""
        number = self._newest = self._newest + 1
        label = StoredLabel(number=number, lease=lease, login=login, annotation=annotation)
        after = await self._store(state, revision, label)
        told = after.labels[-1].annotation
        self._index.end(lease, told)
        self._count(told)
        self._untold[number] = told
        self._index.changed()
        await self._publish([told])
        self._untold.pop(number, None)
        return told

    async def mirror(self, state: TaskState, revision: int, annotation: Annotation, edge: str) -> None:
        """Store a label that an edge has published."""
        number = self._newest = self._newest + 1
        another = edge if edge != state.task.data.edge else ""
        await self._store(state, revision, StoredLabel(number=number, edge=another, annotation=annotation))
        self._count(annotation)

    async def tell(self) -> None:
        """Publish the labels that a fault left unpublished, and store up to which number all are."""
        for number, annotation in sorted(self._untold.items()):
            await self._publish([annotation])
            self._untold.pop(number, None)
        through = min(self._untold, default=self._newest + 1) - 1
        if through > self._told:
            await self._index.note_told(through)
            self._told = through

    async def _store(self, state: TaskState, revision: int, label: StoredLabel) -> TaskState:
        after = task_state.labelled(state, label, self._index.spec, self.model, self._world.now())
        await self._index.store(after, revision)
        return after

    def _count(self, annotation: Annotation) -> None:
        count = self.labellers.setdefault(annotation.labeller, LabellerCount(annotation.source))
        count.skipped += annotation.skipped
        count.labels += not annotation.skipped and not annotation.supersedes
        if annotation.lead_time is not None:
            count.timed += 1
            count.seconds += annotation.lead_time
