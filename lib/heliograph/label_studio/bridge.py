"""The bridge: it claims tasks of a queue for Label Studio, keeps their leases, and submits what people annotate.

It keeps no state of its own: Label Studio's tasks name the sample, and each label names the annotation that it comes
from. A bridge that is started again goes on with both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from heliograph.bus.contract.label_requests import ClaimedTask, TaskPage
from heliograph.bus.contract.payloads import Annotation
from heliograph.bus.contract.resources import LabelQueue
from heliograph.bus.contract.resources.label_queue import LabelQueueSpec
from heliograph.client import AsyncClient
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import Flag, wait_for
from heliograph.core.world import World
from heliograph.label_client import Labeller
from heliograph.label_studio.api import LabelStudio
from heliograph.label_studio.convert import TASK, config_of, result_of, task_of
from heliograph.labelling.results import check_result

NAME = "label-studio"
"""Labeller that holds the leases; a label is of the person who annotated."""


@dataclass(frozen=True)
class Settings:
    """How a bridge works.

    Attributes:
        project: number of Label Studio's project; None makes one, or finds the one that an earlier bridge made.
        ahead: tasks that wait in Label Studio at the same time.
        poll_seconds: between two looks at all of them; webhooks are hints between.
    """

    queue: str
    project: int | None = None
    ahead: int = 50
    poll_seconds: float = 30.0


class Bridge:
    """One queue and one project.

    Args:
        out: called with a line about what was done.
    """

    def __init__(
        self, client: AsyncClient, studio: LabelStudio, settings: Settings, world: World, out: Callable[[str], None]
    ) -> None:
        self._client = client
        self._studio = studio
        self._settings = settings
        self._world = world
        self._out = out
        self._failures = Failures(out)
        self._labellers: list[Labeller] = []
        self._leases: defaultdict[str, dict[str, tuple[Labeller, ClaimedTask]]] = defaultdict(dict)
        """By task, its leases with their holders."""
        self._numbers: dict[str, int] = {}
        """By task, its number in Label Studio."""
        self._labels: dict[str, Annotation] = {}
        """By origin, the label that was made of an annotation."""
        self._skips: set[str] = set()
        """Origins of annotations that skipped their task."""
        self._hints: dict[int, None] = {}
        self._wake = Flag()
        self._spec: LabelQueueSpec | None = None
        self.project = 0

    def hint(self, number: int) -> None:
        """Look at one task of Label Studio soon."""
        self._hints[number] = None
        self._wake.set()

    async def run(self) -> None:
        """Carry tasks and labels until cancelled."""
        await self.begin()
        try:
            while True:
                with self._failures.contain(f"label queue {self._settings.queue}"):
                    await self.step()
                self._wake.clear()
                if not self._hints:
                    await wait_for(self._wake, self._settings.poll_seconds)
        finally:
            await self.end()

    async def begin(self) -> None:
        """Find or make the project, and learn what it and the queue have already."""
        queue = LabelQueue.model_validate(await self._client.labels.get(self._settings.queue), extra="ignore")
        self._spec = queue.spec
        self._labellers = [
            Labeller(self._client, queue.name, NAME if not number else f"{NAME}-{number + 1}", world=self._world)
            for number in range(self._spec.overlap + self._spec.agreement.extra)
        ]
        for each in self._labellers:
            await each.__aenter__()
        if self._settings.project is not None:
            self.project = int((await self._call(self._studio.project, self._settings.project))["id"])
            await self._learn()
        else:
            found = await self._call(self._studio.find_project, self._title)
            if found is not None:
                self.project = found
                await self._learn()
        await self._learn_labels()

    async def end(self) -> None:
        """Give back what is not labelled."""
        for each in self._labellers:
            await each.__aexit__()

    async def step(self) -> None:
        """Carry labels of the tasks that were hinted at, or of all, then fill Label Studio up."""
        hints, self._hints = [*self._hints], {}
        if hints:
            for number in hints:
                await self._carry(await self._call(self._studio.task, number))
        elif self.project:
            for row in await self._call(lambda: [*self._studio.tasks(self.project)]):
                await self._carry(row)
        await self._fill()

    @property
    def _title(self) -> str:
        return f"heliograph {self._settings.queue}"

    async def _fill(self) -> None:
        """Claim tasks until enough wait in Label Studio, and import those that it does not have."""
        assert self._spec is not None
        fresh: dict[str, ClaimedTask] = {}
        for labeller in self._labellers:
            room = self._settings.ahead - labeller.held
            for each in await labeller.claim(min(64, room)) if room > 0 else ():
                self._leases[each.task.task][each.lease] = labeller, each
                if each.task.task not in self._numbers:
                    fresh.setdefault(each.task.task, each)
        if not fresh:
            return
        if not self.project:
            media_type = next(iter(fresh.values())).task.data.media_type
            config = config_of(self._spec.label_schema, media_type)
            self.project = await self._call(self._studio.create_project, self._title, config)
            self._out(f"Label Studio has a project {self.project}, '{self._title}'")
        rows, tasks = [], []
        for task, each in fresh.items():
            try:
                rows.append(task_of(each.task, self._spec.label_schema))
                tasks.append(task)
            except Refused as error:
                self._failures.add(f"task {task[:12]}", error)
                await self._skip_all(task, str(error))
        numbers = await self._call(self._studio.import_tasks, self.project, rows) if rows else []
        self._numbers |= dict(zip(tasks, numbers, strict=True))
        self._out(f"{len(numbers)} tasks wait in Label Studio's project {self.project}")

    async def _carry(self, row: Mapping[str, Any]) -> None:
        """Make labels of a task's annotations that have none yet, or have changed since."""
        data = row.get("data")
        task = data.get(TASK) if isinstance(data, Mapping) else None
        if not isinstance(task, str):
            return  # somebody else's task
        annotations = [each for each in row.get("annotations") or () if isinstance(each, Mapping)]
        for each in sorted(annotations, key=lambda one: int(one.get("id", 0))):
            with self._failures.contain(f"task {task[:12]}, annotation {each.get('id')}"):
                await self._submit(task, each)

    async def _submit(self, task: str, given: Mapping[str, Any]) -> None:
        assert self._spec is not None
        origin = f"{NAME}/{self.project}/{int(given['id'])}"
        known = self._labels.get(origin)
        who = _person(given)
        skipped = bool(given.get("was_cancelled"))
        result = None if skipped else result_of(given.get("result"), self._spec.label_schema)
        if result is not None:
            check_result(result, self._spec.label_schema)
        if (known is not None and known.result == result) or (skipped and origin in self._skips):
            return
        lease = next(iter(self._leases[task].values()), None)
        if known is not None and result is not None:
            self._labels[origin] = await self._labellers[0].correct(known, result, origin=origin)
            return
        if lease is None:
            return  # another labeller has it now, or it is settled
        labeller, claimed = lease
        self._leases[task].pop(claimed.lease, None)
        if result is None:
            await labeller.skip(claimed, "skipped in Label Studio", origin)
            self._skips.add(origin)
            return
        self._labels[origin] = await labeller.submit(
            claimed, result, labeller=who, origin=origin, lead_time=_seconds(given.get("lead_time"))
        )
        self._out(f"task {task[:12]}: labelled by {who}")

    async def _skip_all(self, task: str, why: str) -> None:
        for lease, (labeller, claimed) in [*self._leases.pop(task, {}).items()]:
            with self._failures.contain(f"lease {lease}"):
                await labeller.skip(claimed, why[:1000])

    async def _learn(self) -> None:
        """Read which tasks Label Studio has already."""
        for row in await self._call(lambda: [*self._studio.tasks(self.project)]):
            data = row.get("data")
            if isinstance(data, Mapping) and isinstance(data.get(TASK), str):
                self._numbers[data[TASK]] = int(row["id"])

    async def _learn_labels(self) -> None:
        """Read which annotations have become labels already."""
        after = None
        while True:
            fields: dict[str, str] = {"after": after} if after is not None else {}
            page = TaskPage.model_validate(await self._client.labels.ask("tasks", self._settings.queue, **fields))
            for record in page.tasks:
                own = [each for each in record.annotations if each.origin.startswith(NAME)]
                self._labels |= {each.origin: each for each in own if not each.skipped}
                self._skips |= {each.origin for each in own if each.skipped}
            after = page.after
            if after is None:
                return

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._world.in_thread(function, *args)


def _person(given: Mapping[str, Any]) -> str:
    """Return who annotated, by the number of the user: a list of tasks says no more, and an e-mail address is nobody
    else's business."""
    by = given.get("completed_by")
    if isinstance(by, Mapping):
        by = by.get("id")
    return f"{NAME}:{by}" if type(by) is int else NAME


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e9 else None
