"""What a pair does: its hard-sample rule tuned on one half of the evaluation's samples, all measured on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.base import Parameter, Scalar
from heliograph.bus.contract.resources.pair_plan import ClassFigures, JointFigures, PairFigures, PairPlan, Side
from heliograph.core.errors import Refused
from heliograph.incremental.samples import Samples, in_blocks
from heliograph.inference.calibration import calibrate, expected_calibration_error
from heliograph.inference.hard_samples import choose
from heliograph.inference.hard_samples.rules import reads_logits
from heliograph.inference.pairs.samples import Divided
from heliograph.inference.predictors import Predictor
from heliograph.inference.predictors.outputs import are_distributions
from heliograph.inference.tuning.labelled import from_arrays
from heliograph.inference.tuning.search import tune

Array = np.ndarray[Any, Any]


def measure(
    plan: PairPlan, divided: Divided, edge: Predictor, cloud: Predictor, names: Sequence[str]
) -> PairFigures:
    """Tune the plan's rule, and measure the pair with it.

    Args:
        edge, cloud: the models as they serve: a rule reads the very scores that it reads in a service.
        names: the classes' names by their index.

    Raises:
        Refused: if a model gives no finite row of scores for each sample, or the rule cannot read or tune them.
    """
    tuning, tunes, measures = plan.tuning, divided.tunes, divided.measures
    logits = reads_logits(tuning.rule)

    def scores(samples: Samples) -> tuple[Array, Array]:
        return _scores(edge, samples, len(names), "edge", logits), _scores(cloud, samples, len(names), "cloud")

    seen = from_arrays(*scores(tunes), tunes.y)
    wanted = tuning.accuracy
    if wanted is None and tuning.offload is None:
        wanted = float(seen.cloud_correct.mean())
    tuned = tune(seen, tuning.rule, tuning.given, target_accuracy=wanted, max_offload=tuning.offload)
    pair = _Pair(*scores(measures), measures.y)
    classes = pair.classes(names)
    return PairFigures(
        evaluation=divided.version,
        tuned_on=len(tunes),
        measured_on=len(measures),
        edge_accuracy=float(pair.edge_right.mean()),
        cloud_accuracy=float(pair.cloud_right.mean()),
        edge_objective=pair.objective("edge", plan.edge.objective),
        cloud_objective=pair.objective("cloud", plan.cloud.objective),
        before=pair.joint(tuning.rule, tuning.given, 1.0),
        after=pair.joint(tuning.rule, tuned.parameters, tuned.temperature),
        temperature=tuned.temperature,
        rule=tuning.rule,
        parameters=[Parameter(key=key, value=value) for key, value in tuned.parameters.items()],
        reached=tuned.choice.reached,
        classes=classes,
        unmeasured=[name for name, each in classes.items() if not each.support],
    )


@dataclass(frozen=True, eq=False)
class _Pair:
    """The scores of both models (n, classes), and the right classes (n)."""

    edge: Array
    cloud: Array
    y: Array

    @property
    def edge_right(self) -> Array:
        return np.asarray(self.edge.argmax(1) == self.y)

    @property
    def cloud_right(self) -> Array:
        return np.asarray(self.cloud.argmax(1) == self.y)

    def joint(self, rule: str, parameters: Mapping[str, Scalar], temperature: float) -> JointFigures:
        """Return what the pair does with a rule."""
        is_hard = choose(rule, parameters)
        rows = [calibrate(row, temperature) for row in self.edge.tolist()]
        hard = np.array([is_hard(row) for row in rows], bool)
        sure = np.asarray(rows, float)
        error = expected_calibration_error(sure, self.y) if are_distributions(sure) else 0.0
        return JointFigures(accuracy=float(np.where(hard, self.cloud_right, self.edge_right).mean()),
                            offload=float(hard.mean()), calibration_error=error)  # fmt: skip

    def objective(self, side: Side, objective: str) -> float:
        """Return the mean recall, or precision, of a model over the classes that have one."""
        found = self._shares(side, objective)
        return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0

    def classes(self, names: Sequence[str]) -> dict[str, ClassFigures]:
        """Return the figures of each class."""
        support = np.bincount(self.y, minlength=len(names))
        recall, precision = self._shares("edge", "recall"), self._shares("cloud", "precision")
        return {
            name: ClassFigures(support=int(count), edge_recall=_known(hits), cloud_precision=_known(right))
            for name, count, hits, right in zip(names, support, recall, precision, strict=True)
        }

    def _shares(self, side: Side, objective: str) -> Array:
        """Return recall or precision by class; NaN where it would be divided by no sample."""
        scores = self.edge if side == "edge" else self.cloud
        answers, classes = scores.argmax(1), scores.shape[1]
        hits = np.bincount(self.y[answers == self.y], minlength=classes)
        among = np.bincount(self.y if objective == "recall" else answers, minlength=classes)
        return np.asarray(np.where(among > 0, hits / np.maximum(among, 1), np.nan))


def _scores(model: Predictor, samples: Samples, classes: int, side: Side, logits: bool = False) -> Array:
    """Return the scores of samples (n, classes): logits, where the rule reads these and the model gives them."""
    rows: list[Any] = []
    for block in in_blocks(samples.x):
        for each in model.predict([model.prepare(x) for x in block]):
            if each.failure is not None:
                raise each.failure
            rows.append(each.logits if logits and each.logits is not None else each.scores)
    shape = np.shape(rows[0])
    if any(row is None or np.shape(row) != (classes,) for row in rows):
        raise Refused("no-scores", field=side, expected=f"a row of {classes} scores for each sample",
                      got=f"one of {shape}", hint="A pair's models are classifiers of the same classes, which give "
                      "probabilities, or logits with outputs='logits'.")  # fmt: skip
    found = np.asarray(rows, np.float64)
    if not np.isfinite(found).all():
        raise Refused("not-finite", field=side, expected="finite scores", got="NaN or infinity",
                      hint="The training has diverged: lower the learning rate.")  # fmt: skip
    return found


def _known(share: float) -> float | None:
    return float(share) if np.isfinite(share) else None
