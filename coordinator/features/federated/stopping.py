"""Whether a federated task has reached one of its stop conditions. Pure.

A plateau is counted as Keras' ``EarlyStopping`` does (https://keras.io/api/callbacks/early_stopping/).
"""

from __future__ import annotations

from collections.abc import Mapping

from heliograph.bus.contract.resources import MetricTarget, Plateau, PlateauState, StopConditions, StopReason

TARGET_REACHED = "TargetReached"


def followed(
    plateau: Plateau | None, known: PlateauState | None, round: int, metrics: Mapping[str, float]
) -> PlateauState | None:
    """Return what has been seen of a plateau's metric after a round was measured; the same object where the round says
    nothing new: it lacks the metric, or is not newer than the newest one.

    Args:
        known: what was seen before; of another metric or mode it counts no more.
    """
    if plateau is None:
        return None
    if known is not None and (known.metric, known.mode) != (plateau.metric, plateau.mode):
        known = None
    value = metrics.get(plateau.metric)
    if value is None or (known is not None and round <= known.round):
        return known
    if known is None:
        return PlateauState(metric=plateau.metric, mode=plateau.mode, best=value, best_round=round, round=round)
    better = value - plateau.min_delta > known.best if plateau.mode == "max" else value + plateau.min_delta < known.best
    if better:
        return known.model_copy(update={"best": value, "best_round": round, "round": round, "waited": 0})
    return known.model_copy(update={"round": round, "waited": known.waited + 1})


def by_metrics(
    stop: StopConditions | None, plateau: PlateauState | None, round: int, metrics: Mapping[str, float]
) -> StopReason | None:
    """Return the condition that a round's metrics have reached; None for none.

    Args:
        plateau: what has been seen of the plateau's metric, this round included.
    """
    if stop is None:
        return None
    value = metrics.get(stop.target.metric) if stop.target is not None else None
    if stop.target is not None and value is not None and _reaches(stop.target, value):
        message = f"round {round}: {stop.target.metric} {value:g} is {_bound_of(stop.target)}"
        return StopReason(reason=TARGET_REACHED, message=message)
    wanted = stop.plateau
    if wanted is not None and plateau is not None and plateau.waited >= wanted.patience:
        by = f" by more than {wanted.min_delta:g}" if wanted.min_delta else ""
        message = (f"{plateau.waited} measured rounds without an improvement of {wanted.metric}{by}; the best was "
                   f"{plateau.best:g} in round {plateau.best_round}")  # fmt: skip
        return StopReason(reason="NoImprovement", message=message)
    return None


def by_bytes(stop: StopConditions | None, uplink_bytes: int) -> StopReason | None:
    """Return the condition that the updates' bytes have reached; None where they have not."""
    if stop is None or stop.uplink_bytes is None or uplink_bytes < stop.uplink_bytes:
        return None
    message = f"{uplink_bytes} bytes of updates came (stop.uplinkBytes {stop.uplink_bytes})"
    return StopReason(reason="UplinkBytesReached", message=message)


def by_time(stop: StopConditions | None, end: str, now: str) -> StopReason | None:
    """Return the condition that the time has reached; None where it has not.

    Args:
        end: time at which the task's wall time is over; empty where it has none.
    """
    if stop is None or stop.wall_time_seconds is None or not "" < end <= now:
        return None
    return StopReason(reason="WallTimeReached", message=f"{stop.wall_time_seconds:g} s (stop.wallTimeSeconds)")


def _reaches(target: MetricTarget, value: float) -> bool:
    if target.at_least is not None:
        return value >= target.at_least
    return target.at_most is not None and value <= target.at_most


def _bound_of(target: MetricTarget) -> str:
    return f"at least {target.at_least:g}" if target.at_least is not None else f"at most {target.at_most:g}"
