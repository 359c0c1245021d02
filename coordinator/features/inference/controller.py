"""Joint inference services: changes of the edges, models and statistics in; their status and workers out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from heliograph.bus.contract import buckets
from heliograph.bus.contract.payloads import WorkerTask
from heliograph.bus.contract.resources import JointInferenceService, Model, Resource
from heliograph.coordinator.api.parameters import Named, check_offered
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import Feature, Part
from heliograph.coordinator.features.inference import state_machine as joint_inference
from heliograph.coordinator.features.inference.statistics import Statistics
from heliograph.coordinator.features.inference.totals import Numbers
from heliograph.core.errors import Refused

COUNTED_EVERY = 1.0
"""Seconds between two writes of a status with nothing new but numbers."""
KNOWN_WITHIN = 2.0


class Services(Feature[JointInferenceService]):
    """The controller of joint inference services."""

    async def prepare(self) -> None:
        """Read what the workers had counted when a coordinator last led."""
        self._world = self.context.port.world
        self._put: dict[str, None] = {}
        """Digests of inline weights that lie in the bucket, too."""
        self._numbers: dict[str, Numbers] = {}
        """By the service's uid, as they were last shown."""
        self._begun = asyncio.Event()
        self._statistics = Statistics(self.context, await self.context.port.bus.kv(buckets.INFERENCE))
        await self._statistics.load()

    def parts(self) -> Sequence[Part]:
        return self._statistics.follow, self._show_numbers

    async def begin(self) -> None:
        """Wait until the statistics are known: the first reconcile would show a service without them. Where the stream
        has forgotten its last message, an idle day later, nothing says so."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KNOWN_WITHIN):
                await self._statistics.known.wait()
        self._count()
        self._begun.set()

    def validate(self, service: JointInferenceService, topic: str) -> None:
        rule, place = service.spec.hard_sample_rule, "spec.hardSampleRule"
        named = Named("rule", rule.name, f"{place}.name", rule.parameters, f"{place}.parameters")
        check_offered(named, self.context.view().rules(), topic)

    def changed(self, known: JointInferenceService, changed: JointInferenceService) -> JointInferenceService:
        return joint_inference.update(known, changed)

    def steer(self, service: JointInferenceService, verb: str, topic: str) -> JointInferenceService:
        match verb:
            case "stop":
                return joint_inference.stop(service)
            case "start":
                return joint_inference.start(service)
        return super().steer(service, verb, topic)

    def may_delete(self, other: Resource, topic: str) -> None:
        """Refuse to delete a model that a service runs."""
        for service in self.resources() if isinstance(other, Model) else ():
            if not service.status.stopped and other.name in joint_inference.models(service):
                raise Refused("in-use", topic=topic, field="name", expected="a model that no service runs",
                              got=f"{other.name}, which service {service.name} runs",
                              hint="Stop or delete the service first.")  # fmt: skip

    async def _show_numbers(self) -> None:
        """Until cancelled: keep new numbers, and show them."""
        await self._begun.wait()
        while True:
            found = self._count()
            await self._statistics.save()  # first: what has been shown is not lost
            for service in found:
                await self._observe(service)
            await self._world.sleep(COUNTED_EVERY)
            await self._statistics.wait()

    async def reconcile(self) -> None:
        """Act on what the edges' presence and reports, and the models, mean for each service."""
        if self._begun.is_set():
            for service in self.resources():
                await self._observe(service)

    def desired(self, view: View) -> list[dict[str, list[WorkerTask]]]:
        return [joint_inference.desired_tasks(service, view) for service in self.resources()]

    async def removed(self, service: JointInferenceService) -> None:
        """Forget what was counted for it."""
        self._numbers.pop(service.metadata.uid, None)
        await self._statistics.forget(service.metadata.uid)

    def _count(self) -> list[JointInferenceService]:
        """Add up what is new; return the services with new numbers."""
        news = self._statistics.take_news()
        found = [each for each in self.resources() if each.metadata.uid in news]
        for each in found:
            uid = each.metadata.uid
            self._numbers[uid] = self._statistics.numbers(uid, joint_inference.replicas(each))
        return found

    async def _observe(self, service: JointInferenceService) -> None:
        view, now = self.context.view(), self._world.timestamp()
        for name in joint_inference.models(service):  # agents fetch weights from the bucket, declared ones too
            weights = view.models[name].spec.weights if name in view.models else None
            if weights is not None and weights.inline is not None and weights.digest not in self._put:
                await self.context.versions.in_bucket(weights)
                self._put[weights.digest] = None

        def decide(service: JointInferenceService) -> JointInferenceService:
            numbers = self._numbers.get(service.metadata.uid, Numbers())
            return joint_inference.observe(service, view, numbers, now)

        step = await self.context.step(JointInferenceService, service.name, decide)
        if step is not None and step[0].status.phase != step[1].status.phase:
            self.context.out(f"service {service.name} {step[1].status.phase.lower()}")
