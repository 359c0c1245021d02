"""Rules across fields, as CEL, for those models' rules that no schema says and whose cost is bounded.

An API server refuses a definition whose rules may cost too much, by the largest lists and texts that the schema allows.
The coordinator checks every rule of the models by itself; these ones are found a step earlier, by ``kubectl apply``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heliograph.bus.contract.resources.joint_inference_service import HardSampleRule
from heliograph.bus.contract.resources.pair_plan import UNTUNED
from heliograph.bus.contract.resources.participants import FEWER


@dataclass(frozen=True)
class Rule:
    """A rule of one model.

    Attributes:
        rule: the expression, with ``self`` for the model's value.
        message: what was expected.
        fields: the fields without which the rule has no meaning: the innermost level of a nested model lacks some.
    """

    rule: str
    message: str
    fields: tuple[str, ...] = ()


def _either(part: str, form: str) -> Rule:
    return Rule(f"has(self.{part}) != (has(self.all) && self.all)", f"expected either {form} or {{all: true}}")


def _has_code(worker: str, file: str) -> str:
    return f"has({worker}.{file}) || has({worker}.algorithm) || has({worker}.image)"


_ON_NODE = "(has(self.scriptBootFile) || has(self.scriptDir) || has(self.scriptWorkingDir))"
_TRAIN_ON_NODE = "(has(self.trainScriptBootFile) || has(self.trainScriptDir) || has(self.trainScriptWorkingDir))"
_IS_SCRIPT = "self.format == 'script'"

RULES: Mapping[str, tuple[Rule, ...]] = {
    "Participants": (
        Rule("(has(self.count) ? 1 : 0) + (has(self.fraction) ? 1 : 0) + (has(self.all) && self.all ? 1 : 0) == 1",
             "expected either {count: N}, {fraction: 0.1} or {all: true}"),
        Rule(f"!(has(self.all) && self.all && has(self.selection) && self.selection.strategy in {list(FEWER)})",
             "expected count or fraction with a strategy that selects fewer edges than all"),
    ),
    "EdgeSelection": (_either("names", "{names: [EDGE, ...]}"),),
    "FederatedTaskSpec": (
        Rule(
            "!has(self.quorum) || (has(self.participants) ? !has(self.participants.count) || "
            "self.quorum <= self.participants.count : self.quorum <= size(self.trainingWorkers))",
            "expected a quorum of at most the participants of a round",
        ),
    ),
    "MetricTarget": (Rule("has(self.atLeast) != has(self.atMost)", "expected either atLeast or atMost"),),
    "StopConditions": (
        Rule("has(self.target) || has(self.plateau) || has(self.wallTimeSeconds) || has(self.uplinkBytes)",
             "expected at least one of target, plateau, wallTimeSeconds and uplinkBytes"),
    ),
    "WorkerSpec": (
        Rule(
            f"!has(self.algorithm) || !{_TRAIN_ON_NODE}",
            "expected either algorithm or a script on the node (trainScript...)",
        ),
    ),
    "DatasetSpec": (
        Rule("!has(self.url) || !has(self.content)", "expected either url or content"),
        Rule("!has(self.telemetry) || !(has(self.url) || has(self.content))",
             "expected telemetry without url and content"),
    ),
    "DatasetContent": (Rule("!(self.file in ['.', '..'])", "expected the name of a file"),),
    "LearnedModel": (
        Rule(_has_code("self.workerSpec", "trainScriptBootFile"),
             "expected trainScriptBootFile, algorithm or image in workerSpec"),
    ),
    "IncrementalLearningJobSpec": (
        Rule("self.models.all(one, self.models.exists_one(other, other.model.name == one.model.name))",
             "expected models that differ"),
    ),
    "MetricDrop": (Rule("has(self.by) || has(self.below)", "expected by or below"),),
    "Drift": (
        Rule("!(self.of == 'features' && self.detector == 'ddm')",
             "expected another detector of features: ddm counts errors, for which low scores are taken"),
    ),
    "InferenceScript": (
        Rule(
            f"{_IS_SCRIPT} || !({_ON_NODE} || has(self.algorithm) || size(self.scriptArguments) > 0 || "
            "(has(self.parameters) && size(self.parameters) > 0))",
            "expected neither script..., algorithm nor parameters with format: onnx or tflite, which run no code",
        ),
        Rule(f"!({_IS_SCRIPT}) || (self.output == '' && !has(self.outputs))",
             "expected format: onnx or tflite with output or outputs; a script says them by itself"),
        Rule(f"!has(self.algorithm) || !{_ON_NODE}", "expected either algorithm or a script on the node (script...)"),
        Rule(f"!({_IS_SCRIPT}) || {_has_code('self', 'scriptBootFile')}",
             "expected scriptBootFile, algorithm, image, or format: onnx or tflite, which needs none"),
    ),
    "LabelSchema": (
        Rule("!(self.type in ['choice', 'choices', 'regions']) || (has(self.classes) && size(self.classes) > 0)",
             "expected classes, which a choice, choices and regions have"),
        Rule("!has(self.low) || !has(self.high) || self.low <= self.high",
             "expected a low bound that is not above the high one"),
    ),
    "Tuning": (
        Rule(f"!(self.rule in {list(UNTUNED)})", "expected a rule with a parameter to tune"),
        Rule("!has(self.accuracy) || !has(self.offload)", "expected either accuracy or offload"),
    ),
    "PairTrainingJobSpec": (
        Rule(_has_code("self.workerSpec", "trainScriptBootFile"),
             "expected trainScriptBootFile, algorithm or image in workerSpec"),
        Rule("!has(self.workerSpec.dataset)", "expected data sets as samples, public or heldOutSamples"),
        Rule("self.edge.model.name != self.cloud.model.name", "expected two models that differ"),
        Rule("!has(self.service) || has(self.service.cloudWorker)", "expected a cloudWorker in service"),
        Rule(
            "!has(self.service) || !has(self.service.hardSampleRule) || "
            f"(self.service.hardSampleRule.name == '{HardSampleRule().name}' && "
            f"self.service.hardSampleRule.temperature == {HardSampleRule().temperature} && "
            "(!has(self.service.hardSampleRule.parameters) || size(self.service.hardSampleRule.parameters) == 0))",
            "expected the rule as tuning.rule",
        ),
    ),
}  # fmt: skip
"""By the name of the model; a subclass has those of its bases, too."""
