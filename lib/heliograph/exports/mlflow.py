"""A version in an MLflow registry: its record as a run, its files as the run's model.

``mlflow-skinny`` is enough; the extra ``mlflow`` brings it. MLflow's documentation: https://mlflow.org/docs/latest/.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.bus.contract.model_requests import ModelExport
from heliograph.bus.contract.model_statement import weights_file
from heliograph.bus.contract.resources import TensorSchema
from heliograph.core.errors import HeliographError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_DIGEST = "heliograph.digest"
"""Tag of a registered version: the same weights are registered once."""
_ARTIFACT = "model"


def register(export: ModelExport, folder: Path, tracking_uri: str, name: str) -> str:
    """Register a version that ``exports.folder`` has written as a folder. Return its URI, ``models:/NAME/VERSION``.

    Args:
        tracking_uri: MLflow's server or store; empty for the one that MLflow is configured for.
        name: name of the registered model, which is made where it is missing.

    Raise HeliographError where MLflow is not installed, or refuses.
    """
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise HeliographError("MLflow is not installed here: pip install 'heliograph[mlflow]'") from None
    try:
        return _registered(MlflowClient(tracking_uri or None, tracking_uri or None), export, folder, name)
    except MlflowException as error:
        raise HeliographError(f"MLflow refused: {error}") from error


def _registered(client: MlflowClient, export: ModelExport, folder: Path, name: str) -> str:
    from mlflow.exceptions import MlflowException

    version = export.version
    try:
        client.create_registered_model(name, description=version.description or None)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = [each for each in client.search_model_versions(f"name = '{name}'") if _is_of(each, version.weights.digest)]
    if known:
        return f"models:/{name}/{known[0].version}"
    experiment = client.get_experiment_by_name(export.name)
    place = experiment.experiment_id if experiment is not None else client.create_experiment(export.name)
    run = client.create_run(place, run_name=f"{export.name}-v{version.version}")
    run_id = run.info.run_id
    for key, value in _parameters(export).items():
        client.log_param(run_id, key, value)
    for key, metric in version.metrics.items():
        client.log_metric(run_id, key, metric)
    (folder / "MLmodel").write_text(json.dumps(_description(export, run_id), indent=1) + "\n", encoding="utf-8")
    client.log_artifacts(run_id, str(folder), _ARTIFACT)
    client.set_terminated(run_id)
    source = f"{run.info.artifact_uri}/{_ARTIFACT}"
    tags = {_DIGEST: version.weights.digest, "heliograph.version": str(version.version)}
    made = client.create_model_version(name, source, run_id, tags=tags, description=version.description or None)
    return f"models:/{name}/{made.version}"


def _is_of(known: Any, digest: str) -> bool:
    return bool(known.tags.get(_DIGEST) == digest)


def _parameters(export: ModelExport) -> dict[str, str]:
    version = export.version
    found = {
        "version": str(version.version),
        "round": str(version.round),
        "job": version.job_name,
        "parent": version.parent,
        "datasets": version.datasets_digest,
        "licence": version.licence,
        "code": ",".join(version.code)[:500],
        "framework": export.framework,
        "evaluation_set": version.evaluation_set.version if version.evaluation_set is not None else "",
    }
    return {key: value for key, value in found.items() if value}


def _description(export: ModelExport, run_id: str) -> dict[str, Any]:
    """Return the file ``MLmodel``. It is YAML, of which JSON is a part."""
    version = export.version
    tree: dict[str, Any] = {
        "artifact_path": _ARTIFACT,
        "run_id": run_id,
        "flavors": {version.weights.format: {"data": weights_file(version.weights), "framework": export.framework}},
        "metadata": {"heliograph_version": version.version, "heliograph_digest": version.weights.digest},
    }
    signature = {
        side: json.dumps([_tensor(each) for each in tensors])
        for side, tensors in (("inputs", version.inputs), ("outputs", version.outputs))
        if tensors
    }
    return tree | {"signature": signature | {"params": None}} if signature else tree


def _tensor(schema: TensorSchema) -> dict[str, Any]:
    named = {"name": schema.name} if schema.name else {}
    return {"type": "tensor", **named, "tensor-spec": {"dtype": schema.dtype, "shape": schema.shape}}
