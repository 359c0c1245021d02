"""The samples of a pair's training: the developer's own, similar public ones, and those that nobody trains on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliograph.bus.contract.resources.pair_plan import PairEvaluation, SelectionFigures, SelectionRule
from heliograph.core.errors import Refused
from heliograph.core.membership import HeldOut
from heliograph.incremental.samples import Samples, in_blocks, joined, plain, rows_of, samples_of, without
from heliograph.inference.pairs.nearest import nearest

Array = np.ndarray[Any, Any]
Embed = Callable[[Any], Any]
_HALF = HeldOut(50, "tunes")
"""Divides the evaluation's samples: a half tunes, the other one measures."""


@dataclass(frozen=True, eq=False)
class Divided:
    """The developer's samples, divided by what they are for. No sample is in two parts.

    Attributes:
        train: what is trained on.
        tunes, measures: the two halves of the evaluation.
        version: SHA-256 of the evaluation's rule and of its members' ids.
    """

    train: Samples
    tunes: Samples
    measures: Samples
    version: str

    @property
    def held_out(self) -> Samples:
        """The samples of both halves."""
        return joined([self.tunes, self.measures])


@dataclass(frozen=True, eq=False)
class Selection:
    """The selected samples of the public data set, nearest first.

    Attributes:
        indices: their indices in the public data set, (n) int64.
        to: index in the training part of the own sample that each lies nearest to, (n) int64.
        distances: from that sample, (n) float64.
    """

    indices: Array
    to: Array
    distances: Array

    def arrays(self) -> dict[str, Array]:
        """Return it as the arrays of a file."""
        return {"indices": self.indices, "to": self.to, "distances": self.distances}

    @classmethod
    def of(cls, arrays: Mapping[str, Array], own: int, public: int) -> Selection:
        """Return what a file says. Raise Refused where it does not fit the data.

        Args:
            own, public: numbers of samples that it may refer to.
        """
        found = [arrays.get(name, np.zeros(0, np.int64)) for name in ("indices", "to", "distances")]
        indices, to, distances = found
        whole = indices.dtype.kind == to.dtype.kind == "i" and indices.shape == to.shape == distances.shape
        inside = whole and all(not len(each) or 0 <= each.min() <= each.max() < most
                               for each, most in ((indices, public), (to, own)))  # fmt: skip
        if not inside or indices.ndim != 1:
            raise Refused("bad-selection", field="selection", expected=f"a selection from {public} public samples for "
                          f"{own} own ones", got="one of other data",
                          hint="Start the job anew: it selects again.")  # fmt: skip
        return cls(indices, to, distances)


def divide(own: Samples, evaluation: Samples | None, rule: PairEvaluation) -> Divided:
    """Divide the developer's samples by the hash of each; with an evaluation set none is held out.

    Raise Refused where a part has no sample.
    """
    if evaluation is None:
        held = HeldOut(rule.held_out, rule.salt)
        chosen = np.array([each in held for each in own.ids()], bool)
        train, evaluation, kind = own[~chosen], own[chosen], f"{rule.held_out} {rule.salt}"
    else:
        train, kind = without(own, evaluation), "all"
    half = np.array([each in _HALF for each in evaluation.ids()], bool)
    found = Divided(train, evaluation[half], evaluation[~half], _version(kind, evaluation))
    for part, what, hint in (
        (found.train, "a sample to train on", "Add samples, or hold out fewer (evaluation.heldOut)."),
        (found.tunes, "a sample to tune with", "Add samples, or hold out more (evaluation.heldOut)."),
        (found.measures, "a sample to measure with", "Add samples, or hold out more (evaluation.heldOut)."),
    ):
        if not len(part):
            raise Refused("no-samples", field="samples", expected=what, hint=hint,
                          got=f"none among {len(own)} own and {len(evaluation)} held-out samples")  # fmt: skip
    return found


def select(
    divided: Divided, public: Any, rule: SelectionRule, embed: Embed | None = None
) -> tuple[Selection, SelectionFigures]:
    """Select public samples that are similar to those to train on. One that the evaluation has is never selected.

    Args:
        public: samples (n, ...), of the form of the developer's; None selects none.
        embed: gives the embeddings (n, d) of samples; by default their numbers.

    Raises:
        Refused: where no public sample is left, or the two data sets differ in form.
    """
    if public is None:
        none = np.zeros(0, np.int64)
        return Selection(none, none, np.zeros(0)), SelectionFigures()
    rows, train, held = rows_of(public), divided.train, divided.held_out
    if rows.shape[1:] != train.x.shape[1:]:
        raise Refused("bad-shape", field="public_x", expected=f"samples of shape {train.x.shape[1:]}, as the own ones",
                      got=rows.shape[1:])  # fmt: skip
    found = nearest(_embedded(train.x, embed), _embedded(rows, embed), min(len(rows), rule.count + len(held)),
                    metric=rule.metric)  # fmt: skip
    near = found.distances <= (rule.most_distance or np.inf)
    candidates = rows[found.indices].astype(train.x.dtype)
    known = np.isin(_keys(samples_of(candidates, np.zeros(len(candidates), np.int64))), _keys(held))
    chosen = np.flatnonzero(near & ~known)[: rule.count]
    if not len(chosen):
        raise Refused("no-samples", field="selection", expected="a public sample near the developer's",
                      got=f"none of {len(rows)}, the nearest at {found.distances[0]:.4g}" if len(found.distances)
                      else f"none of {len(rows)} with a finite embedding",
                      hint="Raise selection.mostDistance, or give another public data set.")  # fmt: skip
    distances = found.distances[chosen]
    figures = SelectionFigures(
        public=len(rows), selected=len(chosen), left_out=int((near & known)[: chosen[-1] + 1].sum()),
        nearest=float(distances[0]), farthest=float(distances[-1]),
    )  # fmt: skip
    return Selection(found.indices[chosen], found.to[chosen], distances), figures


def training_samples(
    divided: Divided, public: Any, public_y: Any, selection: Selection, rule: SelectionRule,
    number_of: Callable[[Any], int],
) -> Samples:  # fmt: skip
    """Return the samples to train on: the developer's own and the selected public ones with their labels.

    A sample that is in both has the developer's label. Raise Refused where the labels are to be the public data set's
    and it has none.
    """
    if not len(selection.indices):
        return divided.train
    x = rows_of(public)[selection.indices].astype(divided.train.x.dtype)
    if rule.labels == "nearest":
        return joined([samples_of(x, divided.train.y[selection.to]), divided.train])
    if public_y is None:
        raise Refused("no-labels", field="public_y", expected="the labels of the public samples, since "
                      "selection.labels is public", got="none",
                      hint="pair.parts(x, y, public_x, public_y), or selection.labels: nearest.")  # fmt: skip
    labels = plain(public_y)[selection.indices]
    return joined([samples_of(x, labels, number_of), divided.train])


def check_classes(train: Samples, held_out: Samples, names: list[str]) -> int:
    """Return the number of classes. Raise Refused where one of them has no sample to train on."""
    largest = max(int(train.y.max()), int(held_out.y.max()) if len(held_out) else 0)
    count = max(len(names), largest + 1, 2)
    missing = sorted(set(range(count)) - set(train.classes.tolist()))
    if missing:
        shown = ", ".join(names[each] if each < len(names) else str(each) for each in missing[:10])
        raise Refused("missing-class", field="samples", expected="a sample to train on of each class",
                      got=f"none of {shown}{' …' if len(missing) > 10 else ''}",
                      hint="Add samples of it, or leave the class out.")  # fmt: skip
    return count


def _embedded(x: Array, embed: Embed | None) -> Array:
    if embed is not None:
        parts = [plain(embed(block)) for block in in_blocks(x)]
        found = np.concatenate(parts) if parts else plain(embed(x))
        if found.ndim < 2 or len(found) != len(x):
            raise Refused("bad-shape", field="embed", expected=f"an embedding for each of {len(x)} samples",
                          got=f"shape {found.shape}")  # fmt: skip
        return found.reshape(len(found), -1)
    if x.dtype.kind not in "fiub":
        raise Refused("bad-argument", field="embed", expected="a function that gives embeddings, since the samples "
                      "are no numbers", got="none", hint="PairTraining(embed=...)")  # fmt: skip
    flat = x.reshape(len(x), math.prod(x.shape[1:]))
    return flat.astype(np.uint8) if flat.dtype.kind == "b" else flat


def _keys(samples: Samples) -> Array:
    return np.ascontiguousarray(samples.id).view(f"V{samples.id.shape[1]}").reshape(-1)


def _version(kind: str, samples: Samples) -> str:
    digest = hashlib.sha256(f"{kind}\n".encode())
    for each in sorted(set(samples.ids())):
        digest.update(each.encode() + b"\n")
    return digest.hexdigest()
