"""Triggers: when a step of a loop begins, by samples, time, metrics or drift."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from heliograph.bus.contract.resources.base import Document, ShortText

MAX_PARTS, MAX_DEPTH = 16, 4
Detector = Literal["page-hinkley", "psi", "adwin", "ddm", "kswin"]
"""Detectors of drift; the last three need River in the inference workers' environment."""


class MetricDrop(Document):
    """A metric of the serving version has fallen.

    Attributes:
        metric: ``accuracy``, or one that the script's ``evaluate`` gives. It is measured with each evaluation; of
            several models that of the job's first one.
        by: how far below its value at the last deployment.
        below: a bound that it has fallen below.
    """

    metric: ShortText = "accuracy"
    by: Annotated[float, Field(gt=0)] | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.by is None and self.below is None:
            raise ValueError("expected by or below")
        return self


class Drift(Document):
    """A detector in the inference workers has seen the scores, or the features, change.

    The service's ``drift`` names the detectors that run.

    Attributes:
        of: ``scores``: the model's confidence; ``features``: the mean of each input's numbers, which ``ddm``
            cannot watch.
        detector: ``page-hinkley`` and ``psi`` need nothing installed; ``adwin``, ``ddm`` and ``kswin`` need ``river``.
        share: share of the edges that have seen it; 0: any edge.
    """

    of: Literal["scores", "features"] = "scores"
    detector: Detector = "page-hinkley"
    share: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _watches_what_it_can(self) -> Self:
        if self.of == "features" and self.detector == "ddm":
            raise ValueError("expected another detector of features: ddm counts errors, for which low scores are taken")
        return self


class Triggers(Document):
    """Conditions, of which all that are given have to hold; ``any`` holds where one of its parts does, ``all`` where
    all do. Without any condition it never holds: a step begins by hand alone.

    Attributes:
        new_samples: number of labelled samples that no training has used.
        cron: schedule of five fields, in UTC: ``0 3 * * *`` holds from each night at three until the next round begins;
            of an evaluation or a deployment, from the first such time at which a candidate waits for it.
        every_seconds: seconds since the last round began, or since the job did.
        metric_drop: a metric has fallen. It begins no training while there is no new sample.
        drift: a detector has seen a drift since the last round began.
        check_seconds: the least time between two looks: conditions that came and went in between do not count. It
            stands beside ``any`` and ``all``, not in them.
    """

    new_samples: Annotated[int, Field(ge=1, le=100_000_000, strict=True)] | None = None
    cron: Annotated[str, StringConstraints(max_length=256)] | None = None
    every_seconds: Annotated[float, Field(gt=0, le=3650 * 86400)] | None = None
    metric_drop: MetricDrop | None = None
    drift: Drift | None = None
    any: Annotated[list["Triggers"], Field(max_length=MAX_PARTS)] = Field(default_factory=list)
    all: Annotated[list["Triggers"], Field(max_length=MAX_PARTS)] = Field(default_factory=list)
    check_seconds: Annotated[float, Field(ge=0, le=31 * 86400)] = 0.0

    @model_validator(mode="after")
    def _not_too_deep(self) -> Self:
        if self.depth > MAX_DEPTH:
            raise ValueError(f"expected at most {MAX_DEPTH} levels of any and all")
        return self

    @property
    def parts(self) -> list["Triggers"]:
        return [*self.any, *self.all]

    @property
    def depth(self) -> int:
        """Return the number of levels of ``any`` and ``all``, this one included."""
        return 1 + max((part.depth for part in self.parts), default=0)
