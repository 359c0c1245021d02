"""Strategies against forgetting, one file each. Strategies combine: ``strategy=[Replay(500), LwF()]``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from heliograph.core.errors import Refused
from heliograph.incremental.strategies.ewc import EWC
from heliograph.incremental.strategies.icarl import ICaRL
from heliograph.incremental.strategies.lwf import LwF
from heliograph.incremental.strategies.replay import Replay
from heliograph.incremental.strategies.strategy import Strategy

__all__ = ["EWC", "ICaRL", "LwF", "Replay", "Strategy", "strategies_of"]


def strategies_of(given: Any) -> tuple[Strategy, ...]:
    """Return the strategies of an argument: one, several, or None for none. Raise Refused for anything else."""
    found = () if given is None else tuple(given) if isinstance(given, Iterable) else (given,)
    for each in found:
        if not isinstance(each, Strategy):
            raise Refused("bad-argument", field="strategy", expected="Replay, ICaRL, EWC or LwF, several of them in a "
                          "list, or None", got=each,
                          hint="strategy=Replay(1000)")  # fmt: skip
    keeping = [type(each).__name__ for each in found if each.keeps_samples]
    if len(keeping) > 1 or len({type(each) for each in found}) < len(found):
        raise Refused("bad-argument", field="strategy", expected="one strategy that keeps samples, and each once",
                      got=", ".join(type(each).__name__ for each in found))  # fmt: skip
    return found
