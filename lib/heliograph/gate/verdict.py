"""The verdict on a challenger: a paired test against the champion, a floor for each class, and a least support."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from heliograph.core.errors import Refused
from heliograph.gate.bootstrap import lower_bound
from heliograph.gate.mcnemar import McNemar, mcnemar

Decision = Literal["passes", "fails", "undecided"]


@dataclass(frozen=True)
class Outcome:
    """What both models answered on one held-out sample.

    Attributes:
        sample: the sample's id.
        label: its true class.
        champion, challenger: the classes that the models gave.
    """

    sample: str
    label: str
    champion: str
    challenger: str


@dataclass(frozen=True)
class ClassFigures:
    """The share of a class's samples that each model gets right (recall)."""

    support: int
    champion: float
    challenger: float


@dataclass(frozen=True)
class Verdict:
    """The decision, why, and the figures behind it.

    Attributes:
        decision: ``undecided`` where there are too few samples to say; only ``passes`` lets a model through.
        reasons: what speaks against the challenger, or what is missing; empty where it passes.
        evaluation: version of the evaluation set.
        gain: accuracy of the challenger minus that of the champion.
        bound: the gain lies above it, with the gate's confidence.
        test: McNemar's test of the two.
        classes: figures by class, of those with a floor or with the least support.
    """

    decision: Decision
    reasons: tuple[str, ...]
    support: int
    champion: float
    challenger: float
    gain: float
    bound: float
    test: McNemar
    classes: Mapping[str, ClassFigures] = field(default_factory=dict)
    evaluation: str = ""

    @property
    def passes(self) -> bool:
        return self.decision == "passes"


@dataclass(frozen=True)
class Gate:
    """The rules that a challenger has to meet. Raises Refused for a rule that cannot be met or says nothing.

    Attributes:
        margin: the lower bound of the gain has to lie above it. 0: the challenger is better, beyond chance. -0.01: it
            is at most one hundredth worse, for a model that is smaller or trained on newer data.
        confidence: of that bound, and of McNemar's test.
        floor: least recall of the challenger in each class that has the least support; 0 sets none.
        floors: the same for single classes, which then need that support.
        most_lost: recall that any class with the least support may lose at most; 1 sets no bound.
        least_support: samples that the evaluation set has to have.
        least_class_support: samples of a class from which its recall says anything.
    """

    margin: float = 0.0
    confidence: float = 0.95
    floor: float = 0.0
    floors: Mapping[str, float] = field(default_factory=dict)
    most_lost: float = 1.0
    least_support: int = 200
    least_class_support: int = 20

    def __post_init__(self) -> None:
        _check("margin", self.margin, -1, 1)
        if not self.margin < 1:
            raise Refused("invalid", field="margin", expected="below 1: no gain is larger", got=self.margin)
        _check("confidence", self.confidence, 0.5, 0.9999)
        _check("floor", self.floor, 0, 1)
        _check("most_lost", self.most_lost, 0, 1)
        for name, value in self.floors.items():
            _check(f"floors[{name!r}]", value, 0, 1)
        for name in ("least_support", "least_class_support"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise Refused("invalid", field=name, expected="a number of samples from 1", got=getattr(self, name))

    def judge(self, outcomes: Iterable[Outcome], evaluation: str = "", seed: int = 0) -> Verdict:
        """Return the verdict on a challenger.

        Args:
            outcomes: one of each sample of the evaluation set.
            evaluation: version of the set, for the record.
            seed: of the bootstrap.

        Raises:
            Refused: where a sample is there twice, or there is none.
        """
        found = _checked(outcomes)
        right = [(each.champion == each.label, each.challenger == each.label) for each in found]
        test = mcnemar(sum(new and not old for old, new in right), sum(old and not new for old, new in right))
        gains = [float(new) - float(old) for old, new in right]
        mean, bound = lower_bound(gains, self.confidence, seed=seed)
        figures = _by_class(found)
        missing = list(self._missing(len(found), figures))
        against = list(self._against(bound, test, figures))
        return Verdict(
            decision="fails" if against else "undecided" if missing else "passes",
            reasons=(*against, *missing), support=len(found),
            champion=sum(old for old, _ in right) / len(found), challenger=sum(new for _, new in right) / len(found),
            gain=mean, bound=bound, test=test, evaluation=evaluation,
            classes={name: each for name, each in figures.items()
                     if name in self.floors or each.support >= self.least_class_support},
        )  # fmt: skip

    def _missing(self, support: int, figures: Mapping[str, ClassFigures]) -> Iterable[str]:
        if support < self.least_support:
            yield f"{support} samples, at least {self.least_support} are needed"
        for name in sorted(self.floors):
            number = figures[name].support if name in figures else 0
            if number < self.least_class_support:
                yield f"class {name}: {number} samples, at least {self.least_class_support} are needed for its floor"

    def _against(self, bound: float, test: McNemar, figures: Mapping[str, ClassFigures]) -> Iterable[str]:
        if self.margin >= 0 and test.p_better > 1 - self.confidence:
            yield (f"it gets {test.gained} samples right that the champion gets wrong, and {test.lost} the other way: "
                   f"that may be chance (p = {test.p_better:.3g}, {1 - self.confidence:.3g} is needed)")  # fmt: skip
        if bound <= self.margin:
            yield f"its gain lies above {bound:+.4f}, that is not above the margin of {self.margin:+.4f}"
        for name, each in sorted(figures.items()):
            if each.support < self.least_class_support:
                continue
            floor = self.floors.get(name, self.floor)
            if each.challenger < floor:
                yield f"class {name}: recall {each.challenger:.4f} is below its floor of {floor:.4f}"
            if each.champion - each.challenger > self.most_lost:
                yield (f"class {name}: recall falls from {each.champion:.4f} to {each.challenger:.4f}, by more than "
                       f"{self.most_lost:.4f}")  # fmt: skip


def _check(name: str, value: float, least: float, most: float) -> None:
    if isinstance(value, bool) or not math.isfinite(value) or not least <= value <= most:
        raise Refused("invalid", field=name, expected=f"a number from {least} to {most}", got=value)


def _checked(outcomes: Iterable[Outcome]) -> Sequence[Outcome]:
    found = sorted(outcomes, key=lambda each: each.sample)
    if not found:
        raise Refused("no-samples", field="outcomes", expected="the outcome of at least one sample", got="none")
    for one, other in pairwise(found):
        if one.sample == other.sample:
            raise Refused("twice", field="sample", expected="each sample once", got=one.sample)
    return found


def _by_class(outcomes: Sequence[Outcome]) -> dict[str, ClassFigures]:
    support = Counter(each.label for each in outcomes)
    old = Counter(each.label for each in outcomes if each.champion == each.label)
    new = Counter(each.label for each in outcomes if each.challenger == each.label)
    return {name: ClassFigures(number, old[name] / number, new[name] / number) for name, number in support.items()}
