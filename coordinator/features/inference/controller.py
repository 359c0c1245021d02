"""Joint inference services: changes of the edges, models and statistics in; their status and workers out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from heliograph.bus.contract.payloads import Task
from heliograph.bus.contract.resources import JointInferenceService, WeightsRef
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.features.inference import state_machine as joint_inference
from heliograph.coordinator.features.inference.statistics import Statistics
from heliograph.coordinator.features.inference.totals import Numbers

COUNTED_EVERY = 1.0
"""Seconds between two writes of a status in which only numbers are new."""
KNOWN_WITHIN = 2.0


class Services:
    """The controller of joint inference services.

    Args:
        in_bucket: puts small weights, which a model may hold inline, where agents fetch the others from.
    """

    def __init__(
        self,
        shared: ControllerContext,
        statistics: Statistics,
        in_bucket: Callable[[WeightsRef], Awaitable[WeightsRef]],
    ) -> None:
        self._shared = shared
        self._statistics = statistics
        self._in_bucket = in_bucket
        self._put: dict[str, None] = {}
        self._world = shared.port.world
        self._numbers: dict[str, Numbers] = {}
        """By the service's uid, as they were last shown."""
        self._begun = False

    async def begin(self) -> None:
        """Returns when the statistics are known: the first look would show a service without them. Where the stream has
        forgotten its last message, an idle day later, nothing says so."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KNOWN_WITHIN):
                await self._statistics.known.wait()
        self._count()
        self._begun = True

    async def run(self) -> None:
        """Keeps new numbers, and shows them."""
        while True:
            found = self._count()
            await self._statistics.save()  # first: what has been shown is not lost
            for service in found:
                await self._look_at(service)
            await self._world.sleep(COUNTED_EVERY)
            await self._statistics.wait()

    async def look(self) -> None:
        """What the edges' presence and reports, and the models, mean for each service."""
        if not self._begun:
            return
        for service in self._shared.store.all(JointInferenceService):
            await self._look_at(service)

    def desired(self, view: View) -> list[dict[str, list[Task]]]:
        """What each edge shall run, for each service."""
        return [
            joint_inference.desired_tasks(service, view) for service in self._shared.store.all(JointInferenceService)
        ]

    async def removed(self, service: JointInferenceService) -> None:
        """What was counted for it goes with it."""
        self._numbers.pop(service.metadata.uid, None)
        await self._statistics.forget(service.metadata.uid)

    def _count(self) -> list[JointInferenceService]:
        """Adds up what is new; returns the services of which something is."""
        news = self._statistics.take_news()
        found = [each for each in self._shared.store.all(JointInferenceService) if each.metadata.uid in news]
        for each in found:
            uid = each.metadata.uid
            self._numbers[uid] = self._statistics.numbers(uid, joint_inference.replicas(each))
        return found

    async def _look_at(self, service: JointInferenceService) -> None:
        view, now = self._shared.view(), self._world.timestamp()
        for weights in joint_inference.weights_in_use(service, view):
            if weights.inline is not None and weights.digest not in self._put:
                await self._in_bucket(weights)
                self._put[weights.digest] = None

        def decide(service: JointInferenceService) -> JointInferenceService:
            numbers = self._numbers.get(service.metadata.uid, Numbers())
            return joint_inference.observe(service, view, numbers, now)

        step = await self._shared.step(JointInferenceService, service.name, decide)
        if step is not None and step[0].status.phase != step[1].status.phase:
            self._shared.out(f"service {service.name} {step[1].status.phase.lower()}")
