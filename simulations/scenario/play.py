"""A scenario played: on a virtual cluster, or on a real one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from heliograph.bus.errors import HeliographError
from heliograph.bus.world import World
from heliograph.simulations.scenario.document import Scenario
from heliograph.simulations.scenario.outcome import Outcome
from heliograph.simulations.scenario.run import Run, Tap
from heliograph.simulations.scenario.timeline import edges_of, timeline

Progress = Callable[[Run], None]
SHOW_EVERY = 0.2
"""Seconds of the real clock between two looks at the progress."""


@dataclass(frozen=True)
class Wish:
    """What was asked for. ``progress`` is called a few times a second."""

    scenario: Scenario
    seed: int
    trace: Path | None = None
    progress: Progress = lambda run: None


def virtually(wish: Wish) -> Outcome:
    """In virtual time. Raises HeliographError where the scenario cannot be played."""
    raise HeliographError("there is no virtual cluster yet")


async def really(wish: Wish) -> Outcome:
    """On real brokers and processes; they are gone when it returns. Raises Refused where the scenario asks for what
    they cannot do, with what to do instead."""
    from heliograph.simulations.scenario.real import SCRIPT, RealStage, check

    plans = edges_of(wish.scenario, wish.seed)
    check(wish.scenario, plans)
    world = World()
    with TemporaryDirectory(prefix="heliograph-") as directory, ExitStack() as stack:
        record = _record(wish, stack)

        def make(tap: Tap) -> RealStage:
            return RealStage(wish.scenario, plans, wish.seed, Path(directory), tap, world)

        run = Run(wish.scenario, timeline(wish.scenario, wish.seed), {plan.name: plan for plan in plans}, make,
                  script=SCRIPT.name, record=record, tick=now_and_then(wish.progress))  # fmt: skip
        return await run.play()


def _record(wish: Wish, stack: ExitStack) -> Tap | None:
    """What writes a message into the trace that was asked for."""
    if wish.trace is None:
        return None
    from heliograph.bus.traces.writing import TraceWriter

    metadata = {"scenario": wish.scenario.name, "seed": str(wish.seed)}
    return stack.enter_context(TraceWriter(wish.trace, metadata=metadata)).write


def now_and_then(progress: Progress) -> Progress:
    """``progress``, at most every ``SHOW_EVERY`` seconds."""
    world = World()
    due = world.monotonic()

    def tick(run: Run) -> None:
        nonlocal due
        if (now := world.monotonic()) >= due:
            due = now + SHOW_EVERY
            progress(run)

    return tick
