"""The results of a task: register its model as a version, and free the blobs of its last rounds."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from heliograph.bus.contract import close_record
from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.permissions import upload_bucket
from heliograph.bus.contract.resources import ENDED, FederatedTask, FederatedTaskStatus
from heliograph.bus.transport import Bus, KeyValue
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.features.federated.provenance import best_version_of, version_of
from heliograph.coordinator.registry.model_versions import ModelVersions
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused


class Results:
    """Registers results, and tidies up after tasks.

    Args:
        rounds: bucket of the close records.
    """

    def __init__(self, bus: Bus, store: ResourceStore, rounds: KeyValue, versions: ModelVersions) -> None:
        self._bus = bus
        self._store = store
        self._rounds = rounds
        self._versions = versions

    async def register(self, task: FederatedTask, view: View) -> None:
        """Make the result of a task that ends the newest version of its model, and its best model one before it; keep
        those of one that failed or was stopped, if an update was counted in it, as unfinished."""
        status = task.status
        if status.model is None:
            return
        end = close_record.dump_end(status.model_round)
        await self._rounds.put(close_record.end_key(task.metadata.uid), end)  # before the aggregation worker ends
        version, best = version_of(task, view, metrics_of(status)), best_version_of(task, view)
        name = task.spec.aggregation_worker.model.name
        if status.phase == "Succeeded":
            await self._versions.add_result(name, version, best)
        elif any(each.counted for each in status.rounds):
            models = await self._bus.blobs(MODELS)
            for weights in await self._versions.keep_unfinished(name, version, best):
                if weights.digest not in self.in_use():
                    await models.delete(weights.digest)

    async def keep_best(self, before: FederatedTask, after: FederatedTask) -> None:
        """Store the bytes of a task's new best model, where they have travelled inside messages so far."""
        best = after.status.best
        if best is None or (before.status.best is not None and before.status.best.model == best.model):
            return
        given = [before.status.evaluating, after.status.evaluating]
        refs = [after.status.model, before.status.model, *(each.model for each in given if each is not None)]
        found = (ref for ref in refs if ref is not None and ref.inline is not None and ref.digest == best.model.digest)
        if (inline := next(found, None)) is not None:
            await self._versions.in_bucket(inline)

    async def free(self, digests: Collection[str]) -> None:
        """Delete models of closed rounds that nothing names any more."""
        models = await self._bus.blobs(MODELS)
        for digest in sorted(set(digests) - self.in_use()):
            await models.delete(digest)

    async def free_last_rounds(self, task: FederatedTask) -> None:
        """Delete the blobs of an ended task's last rounds, except its result: a killed aggregation worker could not.
        The model of a task that failed or was stopped stays as long as it is registered."""
        keys = close_record.recent_keys(task.metadata.uid, task.status.round)
        records = []
        for key in keys:
            entry = await self._rounds.get(key)
            with suppress(Refused):  # the step that needed the record has reported it
                if entry is not None:
                    records.append(close_record.load(entry.value))
        counted = [closed for closed in records if closed.counted]
        result = close_record.result(counted[-1]) if counted and task.status.phase == "Succeeded" else frozenset[str]()
        models = await self._bus.blobs(MODELS)
        uploads: dict[str, set[str]] = {}
        for closed in records:
            for edge, digest in closed.uploads():
                uploads.setdefault(edge, set()).add(digest)
            for digest in sorted(close_record.written(closed) - result - self.in_use()):
                await models.delete(digest)
        for edge, digests in sorted(uploads.items()):
            if (bucket := await self._bus.existing_blobs(upload_bucket(edge))) is not None:
                for digest in sorted(digests.intersection(await bucket.digests())):
                    await bucket.delete(digest)

    async def free_own(self, task: FederatedTask) -> None:
        """Delete what only a task that is deleted has: the edges' own models, and what another run would begin from."""
        status = task.status
        own = [*(status.personal or {}).values(), status.state, status.down]
        await self.free([ref.digest for ref in own if ref is not None])

    async def used_blobs(self) -> set[str]:
        """Return the digests of what tasks need: edges' own models; for running tasks their packages of code, and what
        their last rounds have left, since the next one may begin from it."""
        found = self._of_tasks()
        for task in self._store.all(FederatedTask):
            if task.status.phase == "Running":
                found |= {package.digest for package in task.status.packages.values()}
                for key in close_record.recent_keys(task.metadata.uid, task.status.round):
                    entry = await self._rounds.get(key)
                    with suppress(Refused):  # the step that needed the record has reported it
                        found |= close_record.written(close_record.load(entry.value)) if entry is not None else set()
        return found

    def in_use(self) -> set[str]:
        return self._versions.digests() | self._of_tasks()

    def _of_tasks(self) -> set[str]:
        tasks = self._store.all(FederatedTask)
        used = [ref for task in tasks for ref in (task.status.personal or {}).values()]
        for task in tasks:
            if task.status.phase not in ENDED:
                status = task.status
                used += [ref for ref in (status.model, status.down, status.state) if ref is not None]
                used += [each.model for each in (status.best, status.evaluating) if each is not None]
        return {ref.digest for ref in used}.union(*map(self._for_another_run, tasks))

    def _for_another_run(self, task: FederatedTask) -> set[str]:
        """Return what lies beside the model of a task that may be started again."""
        status = task.status
        if status.phase not in ("Failed", "Stopped") or status.model is None:
            return set()
        beside = {ref.digest for ref in (status.state, status.down) if ref is not None}
        return beside if beside and status.model.digest in self._versions.digests() else set()


def metrics_of(status: FederatedTaskStatus) -> dict[str, float]:
    """Return the metrics of the round that closed with the task's model: its evaluation, if there is one."""
    if status.phase == "Succeeded" and status.evaluation:
        return status.evaluation
    record = next((each for each in reversed(status.rounds) if each.round == status.model_round), None)
    return (record.evaluation or record.metrics) if record is not None else {}
