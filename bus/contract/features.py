"""What a feature declares: a kind of resource, its request verbs and topics, and where its other parts are found."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import Any, Literal

from heliograph.bus.contract import topics
from heliograph.bus.contract.resources import (
    ENDED,
    Algorithm,
    Dataset,
    Edge,
    FederatedTask,
    JointInferenceService,
    Model,
    Resource,
)
from heliograph.core.errors import Refused

ENTRY_POINTS = "heliograph.features"
"""The entry-point group in which a package outside Heliograph names its declarations, one entry each."""
CATALOG = ("create", "list", "get", "update", "delete")


@dataclass(frozen=True)
class FeatureDeclaration:
    """One kind of resource and all that comes with it. Every process reads it, so its module has to be light to import.

    Attributes:
        name: as messages call it; an outside feature's is its entry point's name.
        kind: the resource; its ``plural`` names the requests, the status topics and the client's collection.
        verbs: what can be asked of the resource. ``create``, ``list``, ``get``, ``update``, ``delete`` and ``status``
            are answered for every feature; any other verb is the feature's own (``Feature.steer``).
        topics: those that the feature adds. Permissions, streams and schemas follow from them.
        coordinator: ``module:Class`` of its ``coordinator.feature.Feature``, imported by the coordinator alone.
        command_line: ``module:object`` of its ``cli.presentation.Presentation``, imported by the command line alone.
        ended: phases of ``status`` after which nothing changes any more; whoever watches the resource stops there.
    """

    name: str
    kind: type[Resource]
    verbs: tuple[str, ...]
    topics: tuple[topics.Topic[Any], ...] = ()
    coordinator: str = ""
    command_line: str = ""
    ended: tuple[str, ...] = ()

    @property
    def plural(self) -> str:
        return self.kind.plural

    def load(self, part: Literal["coordinator", "command_line"]) -> Any:
        """Import what a part refers to; None where the feature has no such part. Raises Refused naming both."""
        reference: str = getattr(self, part)
        if not reference:
            return None
        try:
            return pkgutil.resolve_name(reference)
        except Exception as error:  # whatever a foreign module raises
            raise Refused("broken-feature", field=f"{part} of feature {self.name}", expected="module:object to import",
                          got=f"{reference} ({type(error).__name__}: {error})",
                          hint="Mend or uninstall its package.") from error  # fmt: skip


BUILT_IN: tuple[FeatureDeclaration, ...] = (
    FeatureDeclaration(
        "federated-learning",
        FederatedTask,
        (*CATALOG, "status", "stop"),
        (topics.MODEL_UPDATE, topics.AGGREGATION, topics.EVALUATION),
        coordinator="heliograph.coordinator.features.federated.controller:FederatedController",
        command_line="heliograph.cli.features.federated:JOBS",
        ended=ENDED,
    ),
    FeatureDeclaration(
        "joint-inference",
        JointInferenceService,
        (*CATALOG, "status", "start", "stop"),
        (topics.HARD_SAMPLE, topics.LABEL, topics.INFERENCE_STATS, topics.INFERENCE_REQUEST, topics.OFFLOAD,
         topics.BIG_MODEL, topics.ANSWER),
        coordinator="heliograph.coordinator.features.inference.controller:InferenceController",
        command_line="heliograph.cli.features.inference:SERVICES",
    ),
    FeatureDeclaration("models", Model, CATALOG, command_line="heliograph.cli.features.catalog:MODELS"),
    FeatureDeclaration("datasets", Dataset, CATALOG, command_line="heliograph.cli.features.catalog:DATASETS"),
    FeatureDeclaration("algorithms", Algorithm, CATALOG, command_line="heliograph.cli.features.catalog:ALGORITHMS"),
    FeatureDeclaration("edges", Edge, ("list", "get"), command_line="heliograph.cli.features.catalog:EDGES"),
)  # fmt: skip
"""What Heliograph itself declares; an outside feature declares itself the same way."""
