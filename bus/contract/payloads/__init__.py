"""The payloads of the topics, as typed models.

Field names are snake_case on the wire; resources keep Kubernetes' camelCase.
"""

from __future__ import annotations

from heliograph.bus.contract.payloads.base import (
    MAX_COUNT,
    Anything,
    Bucket,
    Count,
    EdgeName,
    Metrics,
    Payload,
    Text,
)
from heliograph.bus.contract.payloads.edge_state import (
    Desired,
    Generation,
    NodeCapacity,
    Offer,
    Report,
    WorkerReport,
)
from heliograph.bus.contract.payloads.inference import (
    HardSample,
    InferenceAnswer,
    InferenceRequest,
    InferenceStats,
    SampleLabel,
)
from heliograph.bus.contract.payloads.node import (
    Ack,
    Assignment,
    Claim,
    LogRecord,
    Reply,
    WorkerState,
)
from heliograph.bus.contract.payloads.participation import (
    PART,
    JobEnded,
    Participation,
    UploadState,
    WeightsPart,
)
from heliograph.bus.contract.payloads.rounds import (
    Aggregation,
    Evaluation,
    ModelUpdate,
    UncountedUpdate,
)
from heliograph.bus.contract.payloads.task_reading import UnsupportedTask
from heliograph.bus.contract.payloads.worker_tasks import (
    AggregateTask,
    BigModelTask,
    DatasetTask,
    EvaluateTask,
    InferenceSpec,
    InferTask,
    PackageSpec,
    RoundSpec,
    ScriptSpec,
    ScriptTask,
    ServingTask,
    TrainTask,
    WorkerAsk,
    WorkerTask,
    WorkerTaskBase,
)

__all__ = [
    "MAX_COUNT",
    "PART",
    "Ack",
    "AggregateTask",
    "Aggregation",
    "Anything",
    "Assignment",
    "BigModelTask",
    "Bucket",
    "Claim",
    "Count",
    "DatasetTask",
    "Desired",
    "EdgeName",
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
    "LogRecord",
    "Metrics",
    "ModelUpdate",
    "NodeCapacity",
    "Offer",
    "PackageSpec",
    "Participation",
    "Payload",
    "Reply",
    "Report",
    "RoundSpec",
    "SampleLabel",
    "ScriptSpec",
    "ScriptTask",
    "ServingTask",
    "Text",
    "TrainTask",
    "UncountedUpdate",
    "UnsupportedTask",
    "UploadState",
    "WeightsPart",
    "WorkerAsk",
    "WorkerReport",
    "WorkerState",
    "WorkerTask",
    "WorkerTaskBase",
]
