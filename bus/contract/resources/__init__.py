"""The resource language: documents in Kubernetes' shape, as a message, a file or a custom resource."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from heliograph.core.errors import Refused, shorten
from heliograph.core.lazy import lazy_names

if TYPE_CHECKING:
    from heliograph.bus.contract.resources.algorithm import Algorithm, AlgorithmPackage, PackageManifest, PinnedPackage
    from heliograph.bus.contract.resources.base import API_VERSION, Condition, Metadata, Resource, WeightsRef, condition
    from heliograph.bus.contract.resources.dataset import Dataset, DatasetIndex, DatasetSpec
    from heliograph.bus.contract.resources.dataset_use import DatasetUse
    from heliograph.bus.contract.resources.edge import Edge
    from heliograph.bus.contract.resources.edge_selection import EdgeSelection
    from heliograph.bus.contract.resources.federated_task import (
        ENDED,
        HISTORY,
        JOINED,
        NAMED,
        WATCHED,
        FederatedTask,
        FederatedTaskStatus,
        JoinedParticipant,
        RoundRecord,
        TrainingWorker,
        UncountedRecord,
    )
    from heliograph.bus.contract.resources.incremental_learning_job import (
        LEARNING_ENDED,
        IncrementalLearningJob,
        IncrementalLearningJobSpec,
        IncrementalLearningJobStatus,
    )
    from heliograph.bus.contract.resources.invitation import Invitation, InvitationSpec, InvitationStatus
    from heliograph.bus.contract.resources.joint_inference_service import (
        MOST_REPLICAS,
        InferenceScript,
        JointInferenceService,
        JointInferenceServiceSpec,
        JointInferenceServiceStatus,
        ServiceNumbers,
    )
    from heliograph.bus.contract.resources.label_queue import (
        LabelQueue,
        LabelQueueSpec,
        LabelQueueStatus,
        LabelSchema,
    )
    from heliograph.bus.contract.resources.learning_progress import (
        CandidateState,
        EdgeLearning,
        GateFigures,
        LearningRound,
        LoopState,
        ModelOutcome,
    )
    from heliograph.bus.contract.resources.learning_tasks import GateRule, ShardRef
    from heliograph.bus.contract.resources.model import (
        BEST,
        CHAMPION,
        AliasMove,
        Model,
        ModelLabels,
        ModelSpec,
        ModelVersion,
        TensorSchema,
        aliased,
        latest,
        named_by,
        resolve,
        resolve_all,
    )
    from heliograph.bus.contract.resources.pair_plan import (
        SIDES,
        Objective,
        PairFigures,
        PairPlan,
        SelectionFigures,
        Side,
    )
    from heliograph.bus.contract.resources.pair_training_job import (
        PAIR_ENDED,
        PairTrainingJob,
        PairTrainingJobStatus,
        TrainedModel,
    )
    from heliograph.bus.contract.resources.participants import Participants, ParticipantSelection
    from heliograph.bus.contract.resources.quarantine import Quarantine, QuarantineSpec, QuarantineStatus
    from heliograph.bus.contract.resources.stop_conditions import (
        BestBy,
        BestModel,
        EvaluatedModel,
        MetricMode,
        MetricTarget,
        Plateau,
        PlateauState,
        StopConditions,
        StopReason,
    )
    from heliograph.bus.contract.resources.user import Grant, User, UserInvitation, UserSpec, UserStatus

__all__ = [
    "API_VERSION",
    "BEST",
    "CHAMPION",
    "ENDED",
    "HISTORY",
    "JOINED",
    "LEARNING_ENDED",
    "MOST_REPLICAS",
    "NAMED",
    "PAIR_ENDED",
    "SIDES",
    "Algorithm",
    "AlgorithmPackage",
    "AliasMove",
    "BestBy",
    "BestModel",
    "CandidateState",
    "Condition",
    "Dataset",
    "DatasetIndex",
    "DatasetSpec",
    "DatasetUse",
    "Edge",
    "EdgeLearning",
    "EdgeSelection",
    "EvaluatedModel",
    "FederatedTask",
    "FederatedTaskStatus",
    "GateFigures",
    "GateRule",
    "Grant",
    "IncrementalLearningJob",
    "IncrementalLearningJobSpec",
    "IncrementalLearningJobStatus",
    "InferenceScript",
    "Invitation",
    "InvitationSpec",
    "InvitationStatus",
    "JoinedParticipant",
    "JointInferenceService",
    "JointInferenceServiceSpec",
    "JointInferenceServiceStatus",
    "LabelQueue",
    "LabelQueueSpec",
    "LabelQueueStatus",
    "LabelSchema",
    "LearningRound",
    "LoopState",
    "Metadata",
    "MetricMode",
    "MetricTarget",
    "Model",
    "ModelLabels",
    "ModelOutcome",
    "ModelSpec",
    "ModelVersion",
    "Objective",
    "PackageManifest",
    "PairFigures",
    "PairPlan",
    "PairTrainingJob",
    "PairTrainingJobStatus",
    "ParticipantSelection",
    "Participants",
    "PinnedPackage",
    "Plateau",
    "PlateauState",
    "Quarantine",
    "QuarantineSpec",
    "QuarantineStatus",
    "UncountedRecord",
    "Resource",
    "RoundRecord",
    "SelectionFigures",
    "ServiceNumbers",
    "ShardRef",
    "Side",
    "StopConditions",
    "StopReason",
    "TensorSchema",
    "TrainedModel",
    "TrainingWorker",
    "User",
    "UserInvitation",
    "UserSpec",
    "UserStatus",
    "WATCHED",
    "WeightsRef",
    "aliased",
    "condition",
    "dump",
    "latest",
    "named_by",
    "refusal_of",
    "resolve",
    "resolve_all",
]

_HOMES = {
    "algorithm": "Algorithm AlgorithmPackage PackageManifest PinnedPackage",
    "base": "API_VERSION Condition Metadata Resource WeightsRef condition",
    "dataset": "Dataset DatasetIndex DatasetSpec",
    "dataset_use": "DatasetUse",
    "edge": "Edge",
    "edge_selection": "EdgeSelection",
    "federated_task":
        "ENDED HISTORY JOINED NAMED WATCHED FederatedTask FederatedTaskStatus JoinedParticipant "
        "RoundRecord TrainingWorker UncountedRecord",
    "incremental_learning_job":
        "LEARNING_ENDED IncrementalLearningJob IncrementalLearningJobSpec IncrementalLearningJobStatus",
    "learning_progress": "CandidateState EdgeLearning GateFigures LearningRound LoopState ModelOutcome",
    "learning_tasks": "GateRule ShardRef",
    "invitation": "Invitation InvitationSpec InvitationStatus",
    "joint_inference_service":
        "MOST_REPLICAS InferenceScript JointInferenceService JointInferenceServiceSpec "
        "JointInferenceServiceStatus ServiceNumbers",
    "label_queue": "LabelQueue LabelQueueSpec LabelQueueStatus LabelSchema",
    "model":
        "BEST CHAMPION AliasMove Model ModelLabels ModelSpec ModelVersion TensorSchema aliased "
        "latest named_by resolve resolve_all",
    "pair_plan": "SIDES Objective PairFigures PairPlan SelectionFigures Side",
    "pair_training_job": "PAIR_ENDED PairTrainingJob PairTrainingJobStatus TrainedModel",
    "participants": "ParticipantSelection Participants",
    "quarantine": "Quarantine QuarantineSpec QuarantineStatus",
    "stop_conditions":
        "BestBy BestModel EvaluatedModel MetricMode MetricTarget Plateau PlateauState StopConditions StopReason",
    "user": "Grant User UserInvitation UserSpec UserStatus",
}
"""The names that each module defines: it is imported when one is first asked for."""
__getattr__ = lazy_names(__name__, _HOMES)

_BRANCH = re.compile(r"(constrained-)?(bool|int|float|str)|(literal|list)\[.*\]")
"""Matches the part that pydantic appends to a field's path for each type that the field may have."""


def refusal_of(error: ValidationError, topic: str = "") -> Refused:
    """Return the first of pydantic's findings as a refusal; its hint names the other wrong fields."""
    findings = error.errors(include_url=False, include_context=False)
    first = findings[0]
    kind = first["type"]
    place = first["loc"]
    beside = [each for each in findings if each["loc"][:-1] == place[:-1]]
    branches = [each for each in beside if _is_branch(each["loc"])]
    if len(branches) > 1 and first in branches:  # a field of several types has a finding for each type
        place = place[:-1]
    else:
        branches = [first]
    refused = [each for each in findings if each not in branches and not _is_alternative(each["loc"], place)]
    others = list(dict.fromkeys(_path(each["loc"]) for each in refused))[:5]
    return Refused(
        "unknown-field" if kind == "extra_forbidden" else "invalid",
        topic=topic,
        field=_path(place),
        expected=" or ".join(dict.fromkeys(_expected(each) for each in branches)),
        got="nothing" if kind == "missing" else shorten(first["input"]),
        hint=f"Also wrong: {', '.join(others)}." if others else "",
    )


def _path(place: tuple[int | str, ...]) -> str:
    words = [part for part in place if isinstance(part, int) or "[" not in part]  # '[' marks a type's name
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in words).lstrip(".")


def _is_alternative(place: tuple[int | str, ...], wrong: tuple[int | str, ...]) -> bool:
    """Return whether ``place`` is a finding for another type of the part that contains ``wrong``."""
    return wrong[: len(place) - 1] == place[:-1] and _is_branch(place)


def _is_branch(place: tuple[int | str, ...]) -> bool:
    """Return whether a finding is about one of a field's types; one about the whole document has no place."""
    return bool(place) and _BRANCH.fullmatch(str(place[-1])) is not None


def _expected(finding: ErrorDetails) -> str:
    text = finding["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("expected ")
    return {"extra_forbidden": "no such field", "missing": "a value"}.get(finding["type"], text)


def dump(document: BaseModel, without: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a document as a tree for JSON, without unset fields and those that ``without`` excludes."""
    return document.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=without)
