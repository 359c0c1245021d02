"""The task of the worker that trains and evaluates a model, in each state of the loop. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from heliograph.bus.contract.payloads import LearnTask, PackageSpec, PodSpec, ScriptSpec, WorkerAsk
from heliograph.bus.contract.resources import IncrementalLearningJobSpec, LoopState, ShardRef
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.resources.incremental_learning_job import EvaluationRule, LearnedModel
from heliograph.bus.contract.resources.worker_spec import WorkerSpec
from heliograph.core.names import join_labels
from heliograph.incremental import loop_shards


def learn_task(
    name: str, uid: str, spec: IncrementalLearningJobSpec, state: LoopState, learned: LearnedModel,
    base: WeightsRef | None, package: PackageSpec | None = None, asks: WorkerAsk | None = None,
    pod: PodSpec | None = None, script: ScriptSpec | None = None,
) -> LearnTask:  # fmt: skip
    """Return the task of one model's worker. Between two rounds it keeps the worker ready.

    Args:
        name, uid: those of the job.
        base: the version that serves, and that the training starts from.
        script: the script in the pod's image; without one the worker runs that of its node.
    """
    model, worker = learned.model.name, learned.worker_spec
    candidate = state.candidates.get(model)
    attempt = candidate.attempt if candidate is not None else 1
    idle = LearnTask(
        worker=worker_of(name, spec, learned, attempt),
        job=name,
        job_uid=uid,
        round=state.round,
        learns=model,
        attempt=attempt,
        script=None if package is not None else script or script_of(worker),
        package=package,
        pod=pod,
        dataset=worker.dataset.name if worker.dataset is not None else None,
        parameters={each.key: each.value for each in worker.parameters if each.value is not None},
        classes=state.classes,
        metric=spec.evaluation.metric,
        active=False,
        asks=asks,
    )
    if candidate is None:
        return idle
    if state.step == "training" and candidate.step == "training":
        return idle.model_copy(
            update={"active": True, "step": "train", "model": base, "shards": loop_shards.to_learn(state, model),
                    "memory": state.memory.get(model)}
        )  # fmt: skip
    if state.step == "evaluating" and candidate.step == "trained":
        shards = loop_shards.to_measure(state)
        return idle.model_copy(
            update={"active": True, "step": "evaluate", "model": candidate.weights, "champion": base, "shards": shards,
                    "gate": spec.gate, "evaluation": evaluation_version(spec.evaluation, shards)}
        )  # fmt: skip
    return idle


def worker_of(name: str, spec: IncrementalLearningJobSpec, learned: LearnedModel, attempt: int = 1) -> str:
    """Return the name of a model's worker. Another attempt is another worker: the one that hangs is ended. On an edge
    that decides by itself one pod serves all attempts: nobody there could have another one made."""
    same = attempt == 1 or (spec.location == "edge" and learned.worker_spec.image is not None)
    return join_labels(name, "learn", learned.model.name, *([] if same else [f"again-{attempt}"]))


def script_of(worker: WorkerSpec) -> ScriptSpec | None:
    """Return the script on the node that a worker names."""
    if not worker.train_script_boot_file:
        return None
    return ScriptSpec(
        directory=worker.train_script_dir or "",
        boot_file=worker.train_script_boot_file,
        arguments=worker.train_script_arguments,
        working_directory=worker.train_script_working_dir or "",
    )


def evaluation_version(rule: EvaluationRule, shards: Sequence[ShardRef]) -> str:
    """Return the version of an evaluation set: the SHA-256 of its rule and of its shards' digests, in order."""
    lines = [f"{rule.held_out} {rule.salt}", *(shard.weights.digest for shard in shards)]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
