"""Playing a scenario on a virtual cluster or on a real one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from heliograph.core.telemetry import NO_TELEMETRY, Telemetry
from heliograph.core.world import World
from heliograph.simulations.scenario.director import ScenarioRun, Tap, TrainingStage
from heliograph.simulations.scenario.document import Scenario
from heliograph.simulations.scenario.job_document import DEFAULT_NAMING, Naming
from heliograph.simulations.scenario.outcome import Outcome
from heliograph.simulations.scenario.timeline import EdgePlan, draw_edges, draw_timeline

Progress = Callable[[ScenarioRun], None]
SHOW_EVERY = 0.2
"""Seconds of the real clock between two displays of the progress."""


@dataclass(frozen=True)
class RunRequest:
    """A scenario with the options of its run. ``progress`` is called a few times per second; ``telemetry`` receives
    the measurements of a virtual cluster."""

    scenario: Scenario
    seed: int
    trace: Path | None = None
    progress: Progress = lambda run: None
    telemetry: Telemetry = NO_TELEMETRY


def play_virtual(request: RunRequest) -> Outcome:
    """Play a scenario in virtual time. Raises HeliographError if it cannot be played."""
    from heliograph.simulations.scenario.learning import Learning
    from heliograph.simulations.scenario.samples import Samples
    from heliograph.simulations.scenario.virtual_stage import NAMING, VirtualStage
    from heliograph.simulations.virtual.loop import VirtualLoop, run

    plans = draw_edges(request.scenario, request.seed)
    samples = Samples(request.scenario.data, [plan.name for plan in plans], request.seed)
    memory = {plan.name: plan.memory_mb for plan in plans}
    learning = Learning(samples, request.scenario.data.seconds_per_sample, request.seed, memory)
    with ExitStack() as stack:
        record = _recorder(request, stack)

        async def main(loop: VirtualLoop) -> Outcome:
            def make_stage(tap: Tap) -> VirtualStage:
                return VirtualStage(loop, plans, learning, request.seed, request.scenario.duration, tap,
                                    request.telemetry)  # fmt: skip

            return await _run(request, plans, make_stage, NAMING, record).play()

        return run(main)


async def play_real(request: RunRequest) -> Outcome:
    """Play a scenario on real brokers and processes, which have ended on return.

    Raises Refused, with a hint, if real processes cannot play the scenario.
    """
    from heliograph.local.run_scope import scratch
    from heliograph.simulations.scenario.real_stage import RealStage, check_playable

    plans = draw_edges(request.scenario, request.seed)
    check_playable(request.scenario, plans)
    world = World()
    with scratch() as directory, ExitStack() as stack:
        record = _recorder(request, stack)

        def make_stage(tap: Tap) -> RealStage:
            return RealStage(request.scenario, plans, request.seed, directory, tap, world)

        return await _run(request, plans, make_stage, DEFAULT_NAMING, record).play()


def _run(
    request: RunRequest, plans: list[EdgePlan], make_stage: Callable[[Tap], TrainingStage], naming: Naming,
    record: Tap | None,
) -> ScenarioRun:  # fmt: skip
    timeline = draw_timeline(request.scenario, request.seed)
    edges = {plan.name: plan for plan in plans}
    tick = throttled(request.progress)
    return ScenarioRun(request.scenario, timeline, edges, make_stage, naming=naming, record=record, tick=tick)


def _recorder(request: RunRequest, stack: ExitStack) -> Tap | None:
    """Return the function that writes messages into the requested trace."""
    if request.trace is None:
        return None
    from heliograph.bus.traces.writing import TraceWriter

    metadata = {"scenario": request.scenario.name, "seed": str(request.seed)}
    return stack.enter_context(TraceWriter(request.trace, metadata=metadata)).write


def throttled(progress: Progress) -> Progress:
    """Limit ``progress`` to one call every ``SHOW_EVERY`` seconds."""
    world = World()
    due = world.monotonic()

    def tick(run: ScenarioRun) -> None:
        nonlocal due
        if (now := world.monotonic()) >= due:
            due = now + SHOW_EVERY
            progress(run)

    return tick
