"""Watch the rollouts that the registry decides on, and store what becomes of each."""

from __future__ import annotations

from heliograph.bus.contract.model_requests import RolloutStart
from heliograph.bus.contract.payloads import VersionStats
from heliograph.bus.contract.resources import Model
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.registry import rollouts
from heliograph.core.tasks import Flag, wait_for

LOOK_EVERY = 1.0
"""Seconds between two looks at the counts of a rollout; workers tell theirs once a second."""


class RolloutWatch:
    """Begins rollouts, and ends them."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._world = context.port.world
        self._begun = Flag()
        self._wake = Flag()

    def begin(self) -> None:
        """Begin to decide: what the workers had counted before this coordinator led is known."""
        self._begun.set()

    def look(self) -> None:
        """Look at the rollouts now: a model may have changed."""
        self._wake.set()

    def begun(self, model: Model, request: RolloutStart, caller: str, now: str) -> Model:
        """Return the model with a version that answers a share of the requests. Raise Refused where none can."""
        return rollouts.begin(model, request, self._counted(model.name), caller, now)

    async def run(self) -> None:
        """Decide on each rollout until cancelled."""
        await self._begun.wait()
        while True:
            self._wake.clear()
            watched = [each.name for each in self._context.store.all(Model) if rollouts.is_watched(each)]
            for name in watched:
                with self._context.failures.contain(f"the rollout of model {name}"):
                    await self._decide(name)
            if watched:
                await wait_for(self._wake, LOOK_EVERY)
            else:
                await self._wake.wait()

    async def _decide(self, name: str) -> None:
        counted, now = self._counted(name), self._world.timestamp()
        step = await self._context.step(Model, name, lambda model: rollouts.decide(model, counted, now))
        if step is None or step[1] is step[0]:
            return
        told = next((each for each in step[1].status.conditions if each.type == rollouts.ROLLED_OUT), None)
        if told is not None and told not in step[0].status.conditions:
            tell = self._context.warn if told.status == "False" else self._context.out
            tell(f"model {name} {'is rolled back' if told.status == 'False' else 'is rolled out'}: {told.message}")
        await self._context.write_desired()

    def _counted(self, model: str) -> dict[str, VersionStats]:
        """Return what inference workers have counted of each version, by its digest."""
        return {digest: each for feature in self._context.features()
                for digest, each in feature.counted(model).items()}  # fmt: skip
