"""The versions that models give up, and the weights that they need."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from heliograph.bus.contract.resources import Model, ModelVersion
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.garbage.lives import Lives
from heliograph.coordinator.garbage.superfluous import Superfluous
from heliograph.coordinator.garbage.versions import superfluous_versions


class OldVersions:
    """Names the versions of models that nobody needs, and deletes them; see ``Feature`` for both methods."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    def used_blobs(self, gone: Collection[str] = ()) -> set[str]:
        """Return the digests of all versions' weights, those of unfinished jobs, and declared ones."""
        found = set[str]()
        for model in self._context.store.all(Model):
            versions = (*model.status.versions, *model.status.unfinished)
            found |= {each.weights.digest for each in versions if _named(model, each) not in gone}
            if model.spec.weights is not None:
                found.add(model.spec.weights.digest)
        return found

    def superfluous(self, lives: Lives, used: Collection[str]) -> Sequence[Superfluous]:
        found = []
        for model in self._context.store.all(Model):
            keep = model.spec.keep_versions or lives.versions
            for each in self._old(model, lives, used):
                reason = f"not among the newest {keep}, deployed nowhere, and no alias names it"
                delete = partial(self._delete, model.name, each.version, lives, used)
                found.append(Superfluous("version", _named(model, each), reason, delete))
        return found

    def _old(self, model: Model, lives: Lives, used: Collection[str]) -> list[ModelVersion]:
        return superfluous_versions(model, self._context.view().edges, used, lives.versions)

    async def _delete(self, name: str, version: int, lives: Lives, used: Collection[str]) -> bool:
        """Delete a version unless it is needed by now: an alias may have moved there."""

        def decide(model: Model) -> Model:
            if version not in (each.version for each in self._old(model, lives, used)):
                return model
            kept = [each for each in model.status.versions if each.version != version]
            return model.model_copy(update={"status": model.status.model_copy(update={"versions": kept})})

        step = await self._context.step(Model, name, decide)
        return step is not None and step[1] is not step[0]


def _named(model: Model, version: ModelVersion) -> str:
    return f"{model.name}/{version.version}"
