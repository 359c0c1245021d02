"""The controller of joint inference services: from edges, models and statistics to status and workers."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterator, Sequence

from heliograph.bus.contract import buckets
from heliograph.bus.contract.model_requests import EdgeDeployment
from heliograph.bus.contract.payloads import VersionStats, WorkerTask
from heliograph.bus.contract.resources import JointInferenceService, Model, Resource
from heliograph.coordinator.api.parameters import NamedChoice, check_offered
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import Feature, Part
from heliograph.coordinator.features.inference import deployment, service_placement
from heliograph.coordinator.features.inference import state_machine as joint_inference
from heliograph.coordinator.features.inference.service_tasks import desired_tasks
from heliograph.coordinator.features.inference.statistics import Statistics
from heliograph.coordinator.features.inference.totals import Totals, added_up
from heliograph.coordinator.packages import check_parameters
from heliograph.core.breaks import Breaks
from heliograph.core.errors import Refused
from heliograph.core.tasks import wait_for

SHOW_EVERY = 1.0
"""Seconds between two writes of a status where only the totals have changed."""
_NO_TOTALS = Totals()
_Inputs = tuple[JointInferenceService, View, Totals]
STATISTICS_TIMEOUT = 2.0
"""Seconds to wait at most for the workers' newest statistics before the first reconcile."""


class InferenceController(Feature[JointInferenceService]):
    """Places services on edges, shows their status and totals, and writes their workers' tasks."""

    async def prepare(self) -> None:
        """Read the workers' counts that an earlier coordinator stored."""
        self._world = self.context.port.world
        self._uploaded: dict[str, None] = {}
        """Digests of inline weights that have been put into the bucket."""
        self._totals: dict[str, Totals] = {}
        """By the service's uid, as last shown."""
        self._desired: dict[str, dict[str, list[WorkerTask]]] = {}
        """By uid, the newest desired tasks of each edge."""
        self._observed: dict[str, _Inputs] = {}
        """By uid, the inputs of the newest observation that has changed nothing."""
        self._begun = asyncio.Event()
        self._statistics = Statistics(self.context, await self.context.port.bus.kv(buckets.INFERENCE))
        await self._statistics.load()

    def parts(self) -> Sequence[Part]:
        return self._statistics.follow, self._show_totals

    async def begin(self) -> None:
        """Wait until the statistics are known: the first reconcile would show a service without them. Give up after
        ``STATISTICS_TIMEOUT``: a stream that has expired its last message, after an idle day, never reaches it."""
        await wait_for(self._statistics.counts_read, STATISTICS_TIMEOUT)
        self._recount()
        self._begun.set()

    def validate(self, service: JointInferenceService, topic: str) -> None:
        rule, place = service.spec.hard_sample_rule, "spec.hardSampleRule"
        choice = NamedChoice("rule", rule.name, f"{place}.name", rule.parameters, f"{place}.parameters")
        view = self.context.view()
        check_offered(choice, view.rules(service_placement.deep_node(service)), topic)
        check_parameters(service, view.packages, topic)

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
            if not service.status.stopped and other.name in service_placement.models(service):
                raise Refused("in-use", topic=topic, field="name", expected="a model that no service runs",
                              got=f"{other.name}, which service {service.name} runs",
                              hint="Stop or delete the service first.")  # fmt: skip

    async def _show_totals(self) -> None:
        """Store new counts and show the totals, until cancelled."""
        await self._begun.wait()
        while True:
            found = self._recount()
            await self._statistics.save()  # store before showing: shown totals survive a restart
            for service in found:
                await self._observe_contained(service)
            await self._world.sleep(SHOW_EVERY)
            await self._statistics.wait()

    async def reconcile(self) -> None:
        """Step each service after a change of presence, reports or models; pass over one if neither it nor the view
        nor its totals have changed since."""
        breaks = Breaks(self._world)
        for service in self.resources() if self._begun.is_set() else ():
            known = self._observed.get(service.metadata.uid)
            if known is None or not all(map(operator.is_, known, self._inputs_of(service))):
                await self._observe_contained(service)
                await breaks.take()

    def deployments(self, model: Model) -> Iterator[EdgeDeployment]:
        view = self.context.view()
        for service in self.resources():
            yield from deployment.of_service(service, model, view, self._totals.get(service.metadata.uid, _NO_TOTALS))

    def counted(self, model: str) -> dict[str, VersionStats]:
        parts: dict[str, list[VersionStats]] = {}
        for service in self.resources():
            if service.spec.edge_worker.model.name == model:
                for digest, each in self._totals.get(service.metadata.uid, _NO_TOTALS).versions.items():
                    parts.setdefault(digest, []).append(each)
        return {digest: added_up(found) for digest, found in parts.items()}

    def drifts(self, model: str) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for service in self.resources():
            if service.spec.edge_worker.model.name != model or not service.spec.drift:
                continue
            placed = self._desired.get(service.metadata.uid, {})
            for edge, seen in self._totals.get(service.metadata.uid, _NO_TOTALS).drifts.items():
                if edge in placed:
                    found.setdefault(edge, {}).update(seen)
        return found

    def desired(self, view: View) -> Iterator[dict[str, list[WorkerTask]]]:
        newest: dict[str, dict[str, list[WorkerTask]]] = {}
        for service in self.resources():
            found = self._desired.get(service.metadata.uid, {})  # a defect stops no running worker
            with self.context.failures.contain(f"service {service.name}"):
                found = desired_tasks(service, view)
            newest[service.metadata.uid] = found
            yield found
        self._desired = newest

    async def removed(self, service: JointInferenceService) -> None:
        """Delete the service's counts."""
        self._totals.pop(service.metadata.uid, None)
        self._observed.pop(service.metadata.uid, None)
        await self._statistics.forget(service.metadata.uid)

    def _recount(self) -> list[JointInferenceService]:
        """Add up new counts; return the services with new totals."""
        changed = self._statistics.pop_changed_services()
        found = [each for each in self.resources() if each.metadata.uid in changed]
        for each in found:
            uid = each.metadata.uid
            self._totals[uid] = self._statistics.totals(uid, service_placement.replicas(each))
        return found

    def _inputs_of(self, service: JointInferenceService) -> _Inputs:
        return service, self.context.view(), self._totals.get(service.metadata.uid, _NO_TOTALS)

    async def _observe_contained(self, service: JointInferenceService) -> None:
        with self.context.failures.contain(f"service {service.name}"):
            await self._observe(service)

    async def _observe(self, service: JointInferenceService) -> None:
        view, now = self.context.view(), self._world.timestamp()
        for name in service_placement.models(service):  # agents fetch declared inline weights from the bucket, too
            weights = view.models[name].spec.weights if name in view.models else None
            if weights is not None and weights.inline is not None and weights.digest not in self._uploaded:
                await self.context.versions.in_bucket(weights)
                self._uploaded[weights.digest] = None

        def decide(service: JointInferenceService) -> JointInferenceService:
            totals = self._totals.get(service.metadata.uid, _NO_TOTALS)
            return joint_inference.observe(service, view, totals, now)

        step = await self.context.step(JointInferenceService, service.name, decide)
        self._observed.pop(service.metadata.uid, None)
        if step is not None and step[0] is step[1]:
            service = step[1]
            self._observed[service.metadata.uid] = service, view, self._totals.get(service.metadata.uid, _NO_TOTALS)
        if step is not None and step[0].status.phase != step[1].status.phase:
            self.context.out(f"service {service.name} {step[1].status.phase.lower()}")
