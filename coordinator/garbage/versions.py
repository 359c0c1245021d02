"""Which versions of a model nobody needs any more. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from heliograph.bus.contract.resources import Model, ModelVersion, resolve_all
from heliograph.coordinator.registry.aliases import referred


def superfluous_versions(model: Model, edges: Iterable[str], used: Collection[str], keep: int) -> list[ModelVersion]:
    """Return the trained versions that no life and nobody keeps, oldest first.

    The newest ``keep`` stay, and each that is deployed on an edge or where jobs start, that an alias names or would
    name again after a rollback, and whose weights another resource uses.

    Args:
        edges: the known edges.
        used: digests that other resources use.
    """
    status = model.status
    versions = status.versions
    older = versions[: -(model.spec.keep_versions or keep)]
    if not older:
        return []
    deployed = resolve_all(model, edges).values()
    named = referred(model) | {version.version for version in deployed if version is not None}
    return [each for each in older if each.version not in named and each.weights.digest not in used]
