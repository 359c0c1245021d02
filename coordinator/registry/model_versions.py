"""The versions of models: results become versions, described and signed, and their weights go where every agent can
fetch them."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.model_requests import AliasChange, Rollback
from heliograph.bus.contract.model_statement import signed
from heliograph.bus.contract.resources import (
    BEST,
    CHAMPION,
    Metadata,
    Model,
    ModelLabels,
    ModelVersion,
    WeightsRef,
    resolve,
)
from heliograph.bus.contract.resources.model import ModelStatus, declared
from heliograph.bus.contract.resources.rollout import Rollout
from heliograph.bus.contract.weights_header import check_inline
from heliograph.bus.transport import Bus
from heliograph.coordinator.registry import aliases, rollouts
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.signing import Signer

UNFINISHED = 8
"""Models of jobs that failed or were stopped that one model keeps."""
Check = Callable[[Model], None]


class ModelVersions:
    """Adds versions to models.

    Args:
        lock: returns the lock of the resource of that plural and name.
        save: stores a model and shows its status.
        signer: signs each version; None where this coordinator has no key.
    """

    def __init__(
        self,
        bus: Bus,
        store: ResourceStore,
        lock: Callable[[str, str], asyncio.Lock],
        save: Callable[[Model], Awaitable[None]],
        signer: Signer | None = None,
    ) -> None:
        self._bus = bus
        self._store = store
        self._lock = lock
        self._save = save
        self.signer = signer

    async def add(self, model: str, version: ModelVersion, *, by: str = "", check: Check | None = None,
                  labels: ModelLabels | None = None) -> int:  # fmt: skip
        """Append a version to a model, numbered after its newest, and return its number. Create a missing model. Skip a
        second version of one round of a job, and a registered file that is a version: they have been added before.

        Args:
            by: where it is given, what is deployed now stays deployed: the champion is set to it, in this name.
            check: called with the model under its lock; raises Refused where the version must not be added.
            labels: the classes that the version tells apart, where the model's document says none.
        """
        weights = await self.in_bucket(version.weights)
        async with self._lock(Model.plural, model):  # two jobs that train one model may end at once
            known = self._store.get(Model, model) or Model(metadata=Metadata(name=model))
            if check is not None:
                check(known)
            status = known.status
            if (same := _added_before(known, version)) is not None:
                return same.version
            deployed = resolve(known)
            if by and deployed is not None and CHAMPION not in status.aliases:
                known = aliases.moved(known, CHAMPION, deployed.version, by, version.time)
            labels = known.spec.label_schema or labels
            numbered = self._described(known, version, _next_number(status), weights, labels)
            others = [each for each in status.unfinished if each.job != version.job]
            await self._save(_with(known, labels, versions=[*status.versions, numbered], unfinished=others))
            return numbered.version

    async def try_out(self, model: str, rollout: Rollout) -> None:
        """Let a version answer a share of the requests beside the deployed one."""

        def tried(known: Model) -> Model:
            return _with_rollout(rollouts.given_up(known, "a job tries another version", rollout.time), rollout)

        await self._change(model, tried)

    def is_taken_back(self, model: str, version: int) -> bool:
        """Return whether somebody has taken back the version that a job tries."""
        known = self._store.get(Model, model)
        return known is not None and rollouts.is_taken_back(known, version)

    async def deploy(self, model: str, version: int, by: str, now: str) -> None:
        """Make a version the champion, and end its rollout. Raise Refused where the model has no such version."""
        champion = AliasChange(name=model, alias=CHAMPION, version=version)
        await self._change(
            model, lambda known: aliases.change(_without_rollout(known, version), champion, by, now)
        )  # fmt: skip

    async def roll_back(self, model: str, version: int, by: str, now: str) -> None:
        """End the rollout of a version; where it is the champion, take that back to what it was."""

        def back(known: Model) -> Model:
            known = _without_rollout(known, version)
            if known.status.aliases.get(CHAMPION) != version:
                return known
            return aliases.roll_back(known, Rollback(name=model), by, now)

        await self._change(model, back)

    async def _change(self, model: str, decide: Callable[[Model], Model]) -> None:
        async with self._lock(Model.plural, model):
            known = self._store.get(Model, model)
            if known is not None and (changed := decide(known)) != known:
                await self._save(changed)

    async def adopt(self, weights: WeightsRef) -> WeightsRef:
        """Bring weights from the bucket that a node has uploaded them to into the models' bucket, and return the
        reference to them there."""
        if weights.inline is not None:
            return await self.in_bucket(weights)
        if weights.bucket in (None, MODELS):
            return weights
        models, uploads = await self._bus.blobs(MODELS), await self._bus.blobs(weights.bucket)
        placed = weights.model_copy(update={"bucket": MODELS})
        if not await models.has(weights.digest):
            with TemporaryDirectory() as directory:
                placed = await models.put(await uploads.fetch(weights, Path(directory) / weights.digest), weights)
        await uploads.delete(weights.digest)
        return placed

    async def add_result(self, model: str, last: ModelVersion, best: ModelVersion | None) -> None:
        """Append what a job has made: its last global model, which is the newest version then, and before it the best
        one, under the alias ``BEST``. Create a missing model; skip what has been added before.

        Args:
            best: its best model, which may be the last one; None where it has none.
        """
        made = [await self._stored(each) for each in _each_once(best, last)]
        async with self._lock(Model.plural, model):  # two jobs that train one model may end at once
            known = self._store.get(Model, model) or Model(metadata=Metadata(name=model))
            labels = known.spec.label_schema
            for version in made:
                if _added_before(known, version) is None:
                    numbered = self._described(known, version, _next_number(known.status), version.weights, labels)
                    known = _with(known, labels, versions=[*known.status.versions, numbered])
            others = [each for each in known.status.unfinished if each.job != last.job]
            changed = _with(known, labels, unfinished=others)
            if best is not None:
                changed = _with_best(changed, changed.status.versions, best)
            await self._save(aliases.without_lost_best(changed))

    async def keep_unfinished(
        self, model: str, last: ModelVersion, best: ModelVersion | None = None
    ) -> list[WeightsRef]:
        """Keep the last global model of a job that has failed or was stopped, and its best one, in place of earlier
        ones of that job. Nothing deploys them. Return the weights that this makes superfluous: only those of the newest
        ``UNFINISHED`` jobs stay.

        The alias ``BEST`` names the best model, unless edges are bound to it: they would lose what is deployed there.
        """
        made = [await self._stored(each) for each in _each_once(best, last)]
        async with self._lock(Model.plural, model):
            known = self._store.get(Model, model) or Model(metadata=Metadata(name=model))
            before, labels = known.status.unfinished, known.spec.label_schema
            free = [each.version for each in before if each.job == last.job]
            unused = itertools.count(_next_number(known.status))
            kept = [each for each in before if each.job != last.job]
            for version in made:
                number = free.pop(0) if free else next(unused)
                kept.append(self._described(known, version, number, version.weights, labels))
            newest = [*dict.fromkeys(each.job for each in reversed(kept))][:UNFINISHED]
            kept = [each for each in kept if each.job in newest]
            changed = _with(known, labels, unfinished=kept)
            if best is not None and not known.status.bindings.get(BEST):
                changed = _with_best(changed, kept, best)
            await self._save(aliases.without_lost_best(changed))
        return [each.weights for each in before if each.weights not in [one.weights for one in kept]]

    async def _stored(self, version: ModelVersion) -> ModelVersion:
        return version.model_copy(update={"weights": await self.in_bucket(version.weights)})

    async def in_bucket(self, weights: WeightsRef) -> WeightsRef:
        """Put weights that travel inline into the object store, and return the reference to them.

        Raise Refused where they are no safetensors file of their digest.
        """
        if weights.inline is None:
            return weights
        check_inline(weights)
        with TemporaryDirectory() as directory:
            file = Path(directory) / weights.digest
            file.write_bytes(weights.inline)
            return await (await self._bus.blobs(MODELS)).put(file, weights)

    def digests(self) -> set[str]:
        """Return the digests of all models' weights: every version's, those of unfinished jobs, and declared ones."""
        models = self._store.all(Model)
        found = {version.weights.digest for model in models
                 for version in (*model.status.versions, *model.status.unfinished)}  # fmt: skip
        return found | {model.spec.weights.digest for model in models if model.spec.weights is not None}

    def _described(
        self, model: Model, version: ModelVersion, number: int, weights: WeightsRef, labels: ModelLabels | None
    ) -> ModelVersion:
        """Return a version with its number, with what the model's document says now, and signed."""
        spec = model.spec
        found = version.model_copy(
            update={
                "version": number,
                "weights": weights,
                "inputs": version.inputs or spec.inputs,
                "outputs": version.outputs or spec.outputs,
                "label_schema": _digest_of(labels) if labels is not None else "",
                "licence": spec.licence,
                "description": spec.description,
            }
        )
        return found if self.signer is None else signed(model.name, found, labels, self.signer)


def _next_number(status: ModelStatus) -> int:
    return 1 + max((each.version for each in (*status.versions, *status.unfinished)), default=0)


def _added_before(model: Model, version: ModelVersion) -> ModelVersion | None:
    """Return the version that this one is already: of the same round of its job, or of the same file."""
    status = model.status
    if version.job:
        return next((each for each in status.versions if (each.job, each.round) == (version.job, version.round)), None)
    known = [*reversed(status.versions), *(each for each in (declared(model),) if each is not None)]
    return next((each for each in known if each.weights.digest == version.weights.digest), None)


def _each_once(best: ModelVersion | None, last: ModelVersion) -> list[ModelVersion]:
    """Return the best and the last model of a job, the last one at the end: it is the newest version."""
    return [last] if best is None or best.round == last.round else [best, last]


def _with_best(model: Model, versions: Sequence[ModelVersion], best: ModelVersion) -> Model:
    """Return the model with the alias ``BEST`` at a job's best model, one of these versions."""
    number = next((each.version for each in versions if (each.job, each.round) == (best.job, best.round)), None)
    named = model.status.aliases
    if number is None or named.get(BEST) == number or (BEST not in named and len(named) >= aliases.MOST_ALIASES):
        return model
    return aliases.moved(model, BEST, number, "", best.time)


def _with(model: Model, labels: ModelLabels | None, **changes: list[ModelVersion]) -> Model:
    status = model.status.model_copy(update=changes)
    named = {each.label_schema for each in (*status.versions, *status.unfinished)}
    schemas = dict(status.label_schemas)
    if labels is not None:
        schemas[_digest_of(labels)] = labels
    kept = {digest: schemas[digest] for digest in sorted(named & schemas.keys())}
    return model.model_copy(update={"status": status.model_copy(update={"label_schemas": kept})})


def _with_rollout(model: Model, rollout: Rollout | None) -> Model:
    return model.model_copy(update={"status": model.status.model_copy(update={"rollout": rollout})})


def _without_rollout(model: Model, version: int) -> Model:
    rollout = model.status.rollout
    return _with_rollout(model, None) if rollout is not None and rollout.version == version else model


def _digest_of(labels: ModelLabels) -> str:
    return hashlib.sha256(labels.model_dump_json(by_alias=True).encode()).hexdigest()
