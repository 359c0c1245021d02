"""Register a file as the next version of a model, on request."""

from __future__ import annotations

from heliograph.bus.contract.buckets import MODELS
from heliograph.bus.contract.model_requests import VersionRegistration
from heliograph.bus.contract.resources import Model, ModelVersion, WeightsRef
from heliograph.bus.contract.resources.model import numbered
from heliograph.bus.contract.weights_header import check_inline
from heliograph.bus.transport import Bus
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.registry import aliases
from heliograph.core.errors import Refused


async def register(
    context: ControllerContext, model: Model, request: VersionRegistration, caller: str
) -> Model:
    """Add the version, and deploy what follows from it before the answer. Return the model. Raise Refused where the
    file is not there, or is none of its format."""
    uid, parent = model.metadata.uid, request.parent

    def check(known: Model) -> None:
        if known.metadata.uid != uid:
            raise Refused("not-found", field="name", expected="a model",
                          got=f"{model.name}, which was deleted meanwhile")  # fmt: skip
        request.check(known)
        if parent is not None:
            aliases.check_version(known, parent, "parent")

    await _check_file(context.port.bus, request.weights)
    check(model)
    if request.dry_run:
        return model
    made_from = numbered(model, parent) if parent is not None else None
    version = ModelVersion(
        version=0, weights=request.weights, metrics=request.metrics, time=context.port.world.timestamp(),
        parent=made_from.weights.digest if made_from is not None else "", inputs=request.inputs,
        outputs=request.outputs,
    )  # fmt: skip
    by = "" if request.deploy else caller
    await context.versions.add(model.name, version, by=by, check=check, labels=request.label_schema)
    await context.write_desired()
    return context.store.get(Model, model.name) or model


async def _check_file(bus: Bus, weights: WeightsRef) -> None:
    """Raise Refused for a file that no node could fetch, or that is none of its format."""
    if weights.inline is not None:
        check_inline(weights)
    elif weights.bucket != MODELS or not await (await bus.blobs(MODELS)).has(weights.digest):
        raise Refused("bad-weights", field="weights", got=f"bucket {weights.bucket}, digest {weights.digest[:12]}",
                      expected=f"a file of the bucket {MODELS}, or one that travels inline",
                      hint="Upload it by: heliograph models upload NAME FILE")  # fmt: skip
