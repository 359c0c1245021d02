"""A scenario played: on a virtual cluster, or on a real one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from heliograph.core.telemetry import NO_TELEMETRY, Telemetry
from heliograph.core.world import World
from heliograph.simulations.scenario.director import Playing, Run, Tap
from heliograph.simulations.scenario.document import Scenario
from heliograph.simulations.scenario.outcome import Outcome
from heliograph.simulations.scenario.task import USUAL, Naming
from heliograph.simulations.scenario.timeline import EdgePlan, edges_of, timeline

Progress = Callable[[Run], None]
SHOW_EVERY = 0.2
"""Seconds of the real clock between two looks at the progress."""


@dataclass(frozen=True)
class Wish:
    """What was asked for. ``progress`` is called a few times a second; ``telemetry`` takes what a virtual cluster
    measures."""

    scenario: Scenario
    seed: int
    trace: Path | None = None
    progress: Progress = lambda run: None
    telemetry: Telemetry = NO_TELEMETRY


def virtually(wish: Wish) -> Outcome:
    """In virtual time. Raises HeliographError where the scenario cannot be played."""
    from heliograph.simulations.scenario.learning import Learning
    from heliograph.simulations.scenario.samples import Samples
    from heliograph.simulations.scenario.virtual import NAMING, VirtualStage
    from heliograph.simulations.virtual.loop import VirtualLoop, run

    plans = edges_of(wish.scenario, wish.seed)
    samples = Samples(wish.scenario.data, [plan.name for plan in plans], wish.seed)
    memory = {plan.name: plan.memory_mb for plan in plans}
    learning = Learning(samples, wish.scenario.data.seconds_per_sample, wish.seed, memory)
    with ExitStack() as stack:
        record = _record(wish, stack)

        async def main(loop: VirtualLoop) -> Outcome:
            def make(tap: Tap) -> VirtualStage:
                return VirtualStage(loop, plans, learning, wish.seed, wish.scenario.duration, tap, wish.telemetry)

            return await _run(wish, plans, make, NAMING, record).play()

        return run(main)


async def really(wish: Wish) -> Outcome:
    """On real brokers and processes; they are gone when it returns. Raises Refused where the scenario asks for what
    they cannot do, with what to do instead."""
    from heliograph.simulations.scenario.real import RealStage, check

    plans = edges_of(wish.scenario, wish.seed)
    check(wish.scenario, plans)
    world = World()
    with TemporaryDirectory(prefix="heliograph-") as directory, ExitStack() as stack:
        record = _record(wish, stack)

        def make(tap: Tap) -> RealStage:
            return RealStage(wish.scenario, plans, wish.seed, Path(directory), tap, world)

        return await _run(wish, plans, make, USUAL, record).play()


def _run(wish: Wish, plans: list[EdgePlan], make: Callable[[Tap], Playing], naming: Naming, record: Tap | None) -> Run:
    when = timeline(wish.scenario, wish.seed)
    tick = now_and_then(wish.progress)
    return Run(wish.scenario, when, {plan.name: plan for plan in plans}, make, naming=naming, record=record, tick=tick)


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
