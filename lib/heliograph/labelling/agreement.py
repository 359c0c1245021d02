"""Agreement of labellers: majority, Dawid and Skene's estimate of the truth, and Krippendorff's alpha. Pure Python.

A. P. Dawid and A. M. Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm", Journal of
the Royal Statistical Society C 28 (1979), https://doi.org/10.2307/2346806. K. Krippendorff, "Computing Krippendorff's
Alpha-Reliability" (2011), https://repository.upenn.edu/handle/20.500.14332/2089.

Labels are given as one mapping for each task, from labeller to label: ``[{"anna": "cat", "bert": "dog"}, …]``. A label
that is missing is not in its mapping.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

L = TypeVar("L", bound=Hashable)
Labels = Mapping[str, L]
"""The labels of one task, by labeller."""
Level = Literal["nominal", "interval"]
_SMOOTHING = 0.01
"""Added to each count of a labeller's answers: a class that it has not met yet has no probability of zero."""
_STEPS = 100
_SETTLED = 1e-6


def majority(labels: Labels[L], same: Callable[[L, L], bool] | None = None) -> tuple[L, float] | None:
    """Return the label that most labellers gave and their share; of a draw the one given first; None without labels.

    Args:
        same: whether two labels count as one, for labels such as boxes; without it equal ones do.
    """
    groups: list[tuple[L, int]] = []
    for label in labels.values():
        for place, (first, count) in enumerate(groups):
            if first == label if same is None else same(first, label):
                groups[place] = first, count + 1
                break
        else:
            groups.append((label, 1))
    if not groups:
        return None
    best, count = max(groups, key=lambda each: each[1])
    return best, count / len(labels)


@dataclass(frozen=True)
class LabellerModel:
    """Dawid and Skene's estimate: how often each class occurs, and what each labeller says of it.

    Attributes:
        classes: the labels that occur, in a fixed order.
        prior: share of each class among the tasks.
        says: by labeller, one row for each true class: the probability of each answer.
        loglikelihood: of the labels, in nats.
    """

    classes: tuple[str, ...] = ()
    prior: tuple[float, ...] = ()
    says: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    loglikelihood: float = 0.0

    def posterior(self, labels: Labels[str]) -> dict[str, float]:
        """Return the probability of each class for a task with these labels. Labels and labellers that the model does
        not know say nothing; the result is empty where none is known."""
        place = {name: index for index, name in enumerate(self.classes)}
        known = [(self.says[who], place[label]) for who, label in labels.items() if who in self.says and label in place]
        if not known:
            return {}
        weights = _normal([self.prior[k] * math.prod(rows[k][label] for rows, label in known)
                           for k in range(len(self.classes))])  # fmt: skip
        return dict(zip(self.classes, weights, strict=True))

    def accuracy(self, labeller: str) -> float:
        """Return the share of a labeller's answers that are right, over the classes as they occur."""
        rows = self.says[labeller]
        return sum(share * rows[k][k] for k, share in enumerate(self.prior))


def dawid_skene(tasks: Sequence[Labels[str]], steps: int = _STEPS) -> LabellerModel:
    """Estimate the truth and the labellers' errors together, by expectation and maximisation from majority votes.

    One step takes time in proportion to the labels times the classes. Without labels the model is empty.
    """
    tasks = [each for each in tasks if each]
    classes = tuple(sorted({label for each in tasks for label in each.values()}))
    if not classes:
        return LabellerModel()
    place = {name: index for index, name in enumerate(classes)}
    labellers = sorted({who for each in tasks for who in each})
    given = [[(who, place[label]) for who, label in each.items()] for each in tasks]
    truth = []
    for each in given:
        votes = Counter(label for _, label in each)
        truth.append([votes[k] / len(each) for k in range(len(classes))])
    before = -math.inf
    for _ in range(steps):
        prior, says = _likeliest(given, truth, labellers, len(classes))
        total = 0.0
        for number, each in enumerate(given):
            weights = [prior[k] * math.prod(says[who][k][label] for who, label in each) for k in range(len(classes))]
            total += math.log(sum(weights)) if sum(weights) > 0 else 0.0
            truth[number] = _normal(weights)
        if abs(total - before) < _SETTLED * max(1.0, abs(total)):
            break
        before = total
    prior, says = _likeliest(given, truth, labellers, len(classes))
    fixed = {who: tuple(tuple(row) for row in rows) for who, rows in says.items()}
    return LabellerModel(classes, tuple(prior), fixed, total)


def krippendorff_alpha(tasks: Sequence[Labels[L]], level: Level = "nominal") -> float | None:
    """Return Krippendorff's alpha: 1 where labellers agree always, 0 where they agree as by chance, below 0 where less.

    Return None where it is not defined: no task has two labels, or all labels are one and the same.

    Args:
        level: ``nominal`` for classes; ``interval`` for numbers, whose squared distance counts.
    """
    pairable = [Counter(each.values()) for each in tasks if len(each) > 1]
    totals: Counter[L] = Counter()
    for counts in pairable:
        totals.update(counts)
    number = sum(totals.values())
    if level == "interval":
        observed = sum(_spread(counts) / (sum(counts.values()) - 1) for counts in pairable)
        expected = _spread(totals)
    else:
        observed = sum(_unequal(counts) / (sum(counts.values()) - 1) for counts in pairable)
        expected = _unequal(totals)
    if number < 2 or expected == 0:
        return None
    return 1 - (number - 1) * observed / expected


def one_class(tasks: Sequence[Labels[L]], least: int = 10) -> dict[str, L]:
    """Return the labellers that gave one class alone, though others gave several classes to the same tasks.

    A labeller counts from ``least`` tasks on that others have labelled too, and where more of the others' labels
    differ from that class than a fifth.
    """
    own: dict[str, Counter[L]] = {}
    others: dict[str, Counter[L]] = {}
    for labels in tasks:
        if len(labels) < 2:
            continue
        counts = Counter(labels.values())
        for who, label in labels.items():
            own.setdefault(who, Counter())[label] += 1
            rest = others.setdefault(who, Counter())
            rest.update(counts)
            rest[label] -= 1
    found: dict[str, L] = {}
    for who, counts in own.items():
        if len(counts) == 1 and counts.total() >= least:
            (label,) = counts
            if others[who].total() - others[who][label] > others[who].total() / 5:
                found[who] = label
    return found


def agreeing_share(tasks: Sequence[Labels[L]]) -> dict[str, float]:
    """Return by labeller the share of equal labels among all pairs of its labels with others' of the same task."""
    equal: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for labels in tasks:
        counts = Counter(labels.values())
        for who, label in labels.items():
            equal[who] += counts[label] - 1
            pairs[who] += len(labels) - 1
    return {who: equal[who] / count for who, count in pairs.items() if count}


def _likeliest(
    given: Sequence[Sequence[tuple[str, int]]], truth: Sequence[Sequence[float]], labellers: Sequence[str], count: int
) -> tuple[list[float], dict[str, list[list[float]]]]:
    """Return the shares of the classes and each labeller's answers that are likeliest, given each task's classes."""
    prior = _normal([sum(each[k] for each in truth) for k in range(count)])
    says = {who: [[_SMOOTHING] * count for _ in range(count)] for who in labellers}
    for labels, weights in zip(given, truth, strict=True):
        for who, label in labels:
            rows = says[who]
            for k, weight in enumerate(weights):
                rows[k][label] += weight
    return prior, {who: [_normal(row) for row in rows] for who, rows in says.items()}


def _normal(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [each / total for each in weights] if total > 0 else [1 / len(weights)] * len(weights)


def _unequal(counts: Counter[L]) -> float:
    """Return the number of ordered pairs of different labels."""
    total = counts.total()
    return total * total - sum(count * count for count in counts.values())


def _spread(counts: Counter[L]) -> float:
    """Return the sum of the squared distances of all ordered pairs of numbers."""
    numbers: list[tuple[float, int]] = [(float(value), count) for value, count in counts.items()]  # type: ignore[arg-type]
    sums = sum(value * count for value, count in numbers)
    squares = sum(value * value * count for value, count in numbers)
    return 2 * (counts.total() * squares - sums * sums)
