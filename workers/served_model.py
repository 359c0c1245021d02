"""Serve a model as its file, an ONNX or a TensorFlow Lite one, without a script of the user's."""

from __future__ import annotations

from heliograph.bus.contract.payloads import InferTask, ServedModel, ServingTask
from heliograph.inference.cloud import BigModel
from heliograph.inference.edge import JointInference
from heliograph.inference.formats import require_runtime
from heliograph.inference.predictors.whole_model import WholeModel


def serve_file(task: ServingTask, served: ServedModel) -> None:
    """Answer the requests of a service's side until the service ends. Raise Refused where this node has no runtime for
    the format. The worker loads the file, and each later one."""
    require_runtime(served.format)
    model, outputs = WholeModel(served.output), served.outputs or None
    if isinstance(task, InferTask):
        JointInference(task.job, model, outputs=outputs).serve()
    else:
        BigModel(task.job, model, outputs=outputs).serve()
