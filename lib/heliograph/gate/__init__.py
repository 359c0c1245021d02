"""The gate before a new model: does it beat the one that is deployed, by more than chance, and harm no class?

    from heliograph.gate import Gate, Outcome
    verdict = Gate(margin=-0.01, floors={"stop sign": 0.95}).judge(outcomes)
    if verdict.passes: ...

A bare difference of two accuracies is noise on a few hundred samples. Both models answer the same held-out samples, so
that the test is paired: ``mcnemar`` on right and wrong, ``bootstrap`` on any score of each sample.
"""

from __future__ import annotations

from heliograph.core.membership import EvaluationSet, HeldOut
from heliograph.gate.bootstrap import LowerBound, lower_bound
from heliograph.gate.mcnemar import McNemar, mcnemar
from heliograph.gate.verdict import ClassFigures, Gate, Outcome, Verdict

__all__ = [
    "ClassFigures",
    "EvaluationSet",
    "Gate",
    "HeldOut",
    "LowerBound",
    "McNemar",
    "Outcome",
    "Verdict",
    "lower_bound",
    "mcnemar",
]
