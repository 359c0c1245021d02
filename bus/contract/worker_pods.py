"""The pods of workers whose spec names an image, and their scripts in the image. Pure."""

from __future__ import annotations

import hashlib
import json

from heliograph.bus.contract.payloads import PodSpec, ScriptSpec
from heliograph.bus.contract.resources.node_resources import WorkerResources
from heliograph.bus.contract.resources.worker_image import RunsImage


def pod_of(runs: RunsImage, resources: WorkerResources | None, job_uid: str) -> PodSpec | None:
    """Return the pod of a worker; None where it names no image. Another job has another one, and so have other settings
    of the same job."""
    if runs.image is None:
        return None
    cpu = resources.cpu or "" if resources is not None else ""
    asks = (resources.memory, resources.gpus, cpu) if resources is not None else ()
    dumped = runs.model_dump(mode="json", include={*runs.pod_fields})
    described = json.dumps([job_uid, dumped, asks], sort_keys=True)
    return PodSpec(
        identity=hashlib.sha256(described.encode()).hexdigest()[:16],
        image=runs.image,
        python=runs.interpreter,
        has_script=bool(runs.image_script),
        env=runs.env,
        volumes=runs.volumes,
        cpu=cpu,
    )


def script_in(runs: RunsImage) -> ScriptSpec | None:
    """Return the script that a worker runs of its image; None where it runs none of it."""
    if not runs.image_script:
        return None
    file, *arguments = runs.image_script
    return ScriptSpec(boot_file=file, arguments=arguments)
