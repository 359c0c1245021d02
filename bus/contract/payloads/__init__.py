"""The payloads of the topics, as typed models.

Field names are snake_case on the wire; resources keep Kubernetes' camelCase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heliograph.core.lazy import lazy_names

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads.assignment import Assignment
    from heliograph.bus.contract.payloads.audit import AuditRecord
    from heliograph.bus.contract.payloads.base import (
        MAX_COUNT,
        AnyData,
        Anything,
        Bucket,
        Count,
        EdgeName,
        Metrics,
        Payload,
        Text,
    )
    from heliograph.bus.contract.payloads.blobs import BlobAsk, ModelReady, UploadOffer, UploadSettled
    from heliograph.bus.contract.payloads.edge_state import (
        Desired,
        Generation,
        NodeCapacity,
        NodeState,
        Offer,
        Report,
        WorkerReport,
    )
    from heliograph.bus.contract.payloads.inference import (
        DeepAnswer,
        HardSample,
        InferenceAnswer,
        InferenceRequest,
        InferenceStats,
        VersionStats,
    )
    from heliograph.bus.contract.payloads.labels import (
        Annotation,
        EdgeQueue,
        LabelTask,
        Prediction,
        Region,
        Result,
        SampleData,
    )
    from heliograph.bus.contract.payloads.learning import Candidate, EdgeLoop, LoopReport, VerdictReport
    from heliograph.bus.contract.payloads.node import (
        Ack,
        Claim,
        LogRecord,
        Reply,
        WorkerState,
    )
    from heliograph.bus.contract.payloads.pairs import PairResult
    from heliograph.bus.contract.payloads.participation import (
        PART,
        JobEnded,
        Participation,
        UploadState,
        WeightsPart,
    )
    from heliograph.bus.contract.payloads.rounds import (
        Aggregation,
        EdgeMeasure,
        Evaluation,
        ModelUpdate,
        RoundState,
        UncountedUpdate,
    )
    from heliograph.bus.contract.payloads.task_parts import (
        CandidateModel,
        InferenceSpec,
        PackageSpec,
        PodSpec,
        RoundSpec,
        ScriptSpec,
        ServedModel,
        WorkerAsk,
    )
    from heliograph.bus.contract.payloads.task_reading import UnsupportedTask
    from heliograph.bus.contract.payloads.worker_tasks import (
        AggregateTask,
        BigModelTask,
        DatasetTask,
        EvaluateTask,
        InferTask,
        LearnTask,
        PairTask,
        ScriptTask,
        ServingTask,
        TrainTask,
        WorkerTask,
        WorkerTaskBase,
    )

__all__ = [
    "MAX_COUNT",
    "PART",
    "Ack",
    "AggregateTask",
    "Aggregation",
    "Annotation",
    "AnyData",
    "Anything",
    "Assignment",
    "AuditRecord",
    "BigModelTask",
    "BlobAsk",
    "Bucket",
    "Candidate",
    "CandidateModel",
    "Claim",
    "Count",
    "DatasetTask",
    "DeepAnswer",
    "Desired",
    "EdgeLoop",
    "EdgeMeasure",
    "EdgeName",
    "EdgeQueue",
    "EvaluateTask",
    "Evaluation",
    "Generation",
    "HardSample",
    "InferTask",
    "InferenceAnswer",
    "InferenceRequest",
    "InferenceSpec",
    "InferenceStats",
    "JobEnded",
    "LabelTask",
    "LearnTask",
    "LogRecord",
    "LoopReport",
    "Metrics",
    "ModelReady",
    "ModelUpdate",
    "NodeCapacity",
    "NodeState",
    "Offer",
    "PackageSpec",
    "PodSpec",
    "PairResult",
    "PairTask",
    "Participation",
    "Payload",
    "Prediction",
    "Region",
    "Reply",
    "Report",
    "Result",
    "RoundSpec",
    "RoundState",
    "SampleData",
    "ScriptSpec",
    "ScriptTask",
    "ServedModel",
    "ServingTask",
    "Text",
    "TrainTask",
    "UncountedUpdate",
    "UnsupportedTask",
    "UploadOffer",
    "UploadSettled",
    "UploadState",
    "VerdictReport",
    "VersionStats",
    "WeightsPart",
    "WorkerAsk",
    "WorkerReport",
    "WorkerState",
    "WorkerTask",
    "WorkerTaskBase",
]

_HOMES = {
    "base": "MAX_COUNT AnyData Anything Bucket Count EdgeName Metrics Payload Text",
    "blobs": "BlobAsk ModelReady UploadOffer UploadSettled",
    "edge_state": "Desired Generation NodeCapacity NodeState Offer Report WorkerReport",
    "inference": "DeepAnswer HardSample InferenceAnswer InferenceRequest InferenceStats VersionStats",
    "labels": "Annotation EdgeQueue LabelTask Prediction Region Result SampleData",
    "learning": "Candidate EdgeLoop LoopReport VerdictReport",
    "assignment": "Assignment",
    "audit": "AuditRecord",
    "node": "Ack Claim LogRecord Reply WorkerState",
    "pairs": "PairResult",
    "participation": "PART JobEnded Participation UploadState WeightsPart",
    "rounds": "Aggregation EdgeMeasure Evaluation ModelUpdate RoundState UncountedUpdate",
    "task_parts": "CandidateModel InferenceSpec PackageSpec PodSpec RoundSpec ScriptSpec ServedModel WorkerAsk",
    "task_reading": "UnsupportedTask",
    "worker_tasks":
        "AggregateTask BigModelTask DatasetTask EvaluateTask InferTask LearnTask PairTask ScriptTask ServingTask "
        "TrainTask WorkerTask WorkerTaskBase",
}
"""The names that each module defines: it is imported when one is first asked for."""
__getattr__ = lazy_names(__name__, _HOMES)
