"""The joint inference service that a pair training job creates of its pair."""

from __future__ import annotations

from heliograph.bus.contract.resources import JointInferenceService, PairTrainingJob
from heliograph.coordinator.feature import ControllerContext, Feature
from heliograph.coordinator.features.pairs.tasks import JOB_ANNOTATION, service_of
from heliograph.core.errors import Conflict, Refused


class PairService:
    """Checks and creates the services of pair training jobs."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context

    def check(self, job: PairTrainingJob, uid: str, topic: str) -> None:
        """Raise Refused where the service could not be created once the pair is there.

        Args:
            uid: of the job; empty where it is new.
        """
        wanted = service_of(job)
        self._services().validate(wanted, topic)
        if self.is_foreign(wanted.name, uid):
            raise Refused("exists", topic=topic, field="spec.service.name", expected="a name that is free",
                          got=wanted.name, hint="Give the service another name, or leave service out: the pair is "
                          "registered all the same.")  # fmt: skip

    async def create(self, job: PairTrainingJob) -> tuple[str, str]:
        """Create the job's service, unless it has. Return its name, and why there is none."""
        wanted = service_of(job)
        if self.is_foreign(wanted.name, job.metadata.uid):
            return "", f"services/{wanted.name} exists, and is not this job's: the pair is registered, not deployed"
        if self._context.store.get(JointInferenceService, wanted.name) is not None:
            return wanted.name, ""
        services = self._services()
        try:
            services.validate(wanted, "")
            self._context.show(await self._context.store.create(wanted))
        except Conflict:
            return await self.create(job)  # another write came first, and the store has read it
        except Refused as error:
            return "", f"services/{wanted.name} was refused: {error}"
        await services.reconcile()
        return wanted.name, ""

    def is_foreign(self, name: str, uid: str) -> bool:
        """Return whether there is a service of that name which the job of that uid has not created."""
        known = self._context.store.get(JointInferenceService, name)
        return known is not None and (not uid or known.metadata.annotations.get(JOB_ANNOTATION) != uid)

    def _services(self) -> Feature[JointInferenceService]:
        return next(each for each in self._context.features() if each.kind is JointInferenceService)
