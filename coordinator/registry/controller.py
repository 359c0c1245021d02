"""The controller of models: what is asked about their versions, aliases that move, signatures, and old versions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from heliograph.bus.contract.garbage import Collect
from heliograph.bus.contract.model_requests import (
    AliasChange,
    DeploymentQuery,
    EdgeDeployment,
    ModelDeployment,
    ModelEvaluation,
    ModelExport,
    ModelVersionList,
    Rollback,
    RolloutStart,
    SigningKey,
    VersionEvaluation,
    VersionQuery,
    VersionRegistration,
    VersionsQuery,
)
from heliograph.bus.contract.model_statement import is_signed, labels_of, record_of, signed
from heliograph.bus.contract.request_bodies import Change
from heliograph.bus.contract.resources import Model, ModelVersion, named_by, resolve
from heliograph.bus.contract.resources.model import declared
from heliograph.coordinator.feature import Feature, Part
from heliograph.coordinator.garbage.lives import Lives
from heliograph.coordinator.garbage.superfluous import Superfluous
from heliograph.coordinator.registry import aliases, rollouts
from heliograph.coordinator.registry.old_versions import OldVersions
from heliograph.coordinator.registry.registration import register
from heliograph.coordinator.registry.rollout_watch import RolloutWatch
from heliograph.core.breaks import Breaks
from heliograph.core.errors import Refused
from heliograph.core.signing import Signer

EDGES_LISTED = 1000
"""Edges in one answer about a deployment, at most."""


class ModelController(Feature[Model]):
    """Answers requests about models, and signs their versions where this coordinator has a key."""

    async def prepare(self) -> None:
        self._signed: dict[str, Model] = {}
        """By name, the models whose versions all have this coordinator's signature."""
        self._rollouts = RolloutWatch(self.context)

    def parts(self) -> Sequence[Part]:
        return (self._rollouts.run,)

    async def begin(self) -> None:
        self._rollouts.begin()

    async def reconcile(self) -> None:
        """Sign what has no signature of this coordinator's key: declared weights, and versions from before it had the
        key. Pass over a model that has not changed since."""
        self._rollouts.look()
        signer = self.context.versions.signer
        if signer is None:
            return
        breaks = Breaks(self.context.port.world)

        def sign(model: Model, signer: Signer = signer) -> Model:
            return _all_signed(model, signer)

        for model in self.resources():
            if self._signed.get(model.name) is not model:
                with self.context.failures.contain(f"the signatures of model {model.name}"):
                    step = await self.context.step(Model, model.name, sign)
                    if step is not None:
                        self._signed[model.name] = step[1]
                await breaks.take()

    async def used_blobs(self, gone: Collection[str] = ()) -> set[str]:
        return OldVersions(self.context).used_blobs(gone)

    async def superfluous(self, lives: Lives, used: Collection[str]) -> Sequence[Superfluous]:
        return OldVersions(self.context).superfluous(lives, used)

    async def removed(self, model: Model) -> None:
        self._signed.pop(model.name, None)

    async def answer(
        self, verb: str, body: BaseModel, resource: Model | None, caller: str
    ) -> BaseModel | Mapping[str, Any]:
        match body:
            case AliasChange():
                change = body
                return await self._change(change, lambda model, now: aliases.change(model, change, caller, now))
            case Collect():
                return await self.context.collect(body.dry_run)
            case Rollback():
                rollback = body
                return await self._change(rollback, lambda model, now: rollouts.roll_back(model, rollback, caller, now))
            case RolloutStart():
                start = body
                return await self._change(start, lambda model, now: self._rollouts.begun(model, start, caller, now))
            case VersionRegistration():
                assert resource is not None
                return await register(self.context, resource, body, caller)
        if resource is None:
            return self._key()
        match body:
            case VersionsQuery():
                return _versions(resource, body)
            case DeploymentQuery():
                return self._deployment(resource, body)
        assert isinstance(body, VersionQuery)
        return _evaluation(resource, body) if verb == "evaluation" else self._export(resource, body)

    async def _change(self, request: Change, decide: Callable[[Model, str], Model]) -> Model:
        """Take a decision about a model's aliases, and deploy what follows from it before the answer."""
        now = self.context.port.world.timestamp()

        def checked(model: Model) -> Model:
            request.check(model)
            return decide(model, now)

        if request.dry_run:
            known = self.context.store.get(Model, request.name)
            if known is None:
                raise _gone(request.name)
            return checked(known)
        step = await self.context.step(Model, request.name, checked)
        if step is None:
            raise _gone(request.name)
        if step[1] is not step[0]:
            self._rollouts.look()
            await self.context.write_desired()
        return step[1]

    def _deployment(self, model: Model, query: DeploymentQuery) -> ModelDeployment:
        found = [each for feature in self.context.features() for each in feature.deployments(model)]
        counts: dict[str, int] = {}
        for each in found:
            counts[each.state] = counts.get(each.state, 0) + 1
        wanted = [each for each in found if _is_asked_for(each, query)]
        wanted.sort(key=lambda each: (each.service, each.edge, each.role))
        return ModelDeployment(name=model.name, counts=dict(sorted(counts.items())), edges=wanted[:EDGES_LISTED])

    def _export(self, model: Model, query: VersionQuery) -> ModelExport:
        version, signer = _version(model, query), self.context.versions.signer
        labels = labels_of(model, version)
        return ModelExport(
            name=model.name,
            version=version,
            record=record_of(model.name, version, labels),
            labels=labels,
            framework=model.spec.framework or "",
            public_key=signer.public_key if signer is not None and version.signature is not None else "",
        )

    def _key(self) -> SigningKey:
        signer = self.context.versions.signer
        if signer is None:
            raise Refused("not-found", field="key", expected="a coordinator with a key",
                          got="one that signs nothing", hint="Start it with --signing-key FILE.")  # fmt: skip
        return SigningKey(public_key=signer.public_key, key_id=signer.key_id)


def _all_signed(model: Model, signer: Signer) -> Model:
    """Return the model with a signature of that key on every version; the same object where they are there."""

    def sign(version: ModelVersion) -> ModelVersion:
        labels = labels_of(model, version)
        return (
            version if is_signed(model.name, version, labels, signer) else signed(model.name, version, labels, signer)
        )

    status = model.status
    of_declared = declared(model)
    changes: dict[str, Any] = {
        "versions": [sign(each) for each in status.versions],
        "unfinished": [sign(each) for each in status.unfinished],
        "declared_signature": sign(of_declared).signature if of_declared is not None else None,
    }
    changed = status.model_copy(update=changes)
    return model if changed == status else model.model_copy(update={"status": changed})


def _versions(model: Model, query: VersionsQuery) -> ModelVersionList:
    known = [each for each in (declared(model), *model.status.versions) if each is not None]
    known = [each for each in reversed(known) if query.before is None or each.version < query.before]
    listed, deployed = [_without_bytes(each) for each in known[: query.limit]], resolve(model)
    return ModelVersionList(
        name=model.name,
        aliases=model.status.aliases,
        bindings=model.status.bindings,
        deployed=deployed.version if deployed is not None else None,
        versions=listed,
        before=listed[-1].version if len(known) > len(listed) else None,
    )


def _without_bytes(version: ModelVersion) -> ModelVersion:
    """Return a version for a list, which has no room for inline weights."""
    if version.weights.inline is None:
        return version
    return version.model_copy(update={"weights": version.weights.model_copy(update={"inline": None})})


def _evaluation(model: Model, query: VersionQuery) -> ModelEvaluation:
    """Return the evaluation of the version asked for, or those of the newest versions and the deployed one."""
    if query.version is not None or query.alias is not None:
        versions = [_version(model, query)]
    else:
        versions = _versions(model, VersionsQuery(name=model.name)).versions
    return ModelEvaluation(
        name=model.name,
        versions=[
            VersionEvaluation(
                version=each.version,
                digest=each.weights.digest,
                metrics=each.metrics,
                evaluation_set=each.evaluation_set,
                job_name=each.job_name,
                round=each.round,
                time=each.time,
                aliases=[name for name, number in model.status.aliases.items() if number == each.version],
            )
            for each in versions
        ],
    )


def _version(model: Model, query: VersionQuery) -> ModelVersion:
    """Return the version that a request names, what an unfinished job left among them. Raise Refused where there is
    none."""
    if query.alias is not None:
        found = named_by(model, query.alias)
        expected = ", ".join(model.status.aliases) or "no alias: the model has none"
    elif query.version is not None:
        known = [*(each for each in (declared(model),) if each is not None), *model.status.versions,
                 *model.status.unfinished]  # fmt: skip
        found = next((each for each in known if each.version == query.version), None)
        expected = ", ".join(str(number) for number in sorted(each.version for each in known)[-20:]) or "no version yet"
    else:
        found, expected = resolve(model), "a model with a version; a job that trains it makes the first"
    if found is not None:
        return found
    field = "alias" if query.alias is not None else "version"
    raise Refused("no-version", topic=f"model/{model.name}", field=field, expected=expected,
                  got=query.alias if query.alias is not None else query.version)  # fmt: skip


def _is_asked_for(each: EdgeDeployment, query: DeploymentQuery) -> bool:
    return (query.state is None or each.state == query.state) and (query.after is None or each.edge > query.after)


def _gone(name: str) -> Refused:
    return Refused("not-found", field="name", expected="a model", got=f"{name}, which was deleted meanwhile")
