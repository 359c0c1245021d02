"""Answer whoever takes part in tasks by request: edges that join, and foreign participants, with their weights."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pydantic import BaseModel

from heliograph.bus.contract import topics
from heliograph.bus.contract.join_bodies import GetWeights, Join, UploadWeights
from heliograph.bus.contract.payloads import Participation, UploadState, WeightsPart
from heliograph.bus.contract.permissions import participant_of
from heliograph.bus.contract.resources import ENDED, FederatedTask
from heliograph.coordinator.feature import ControllerContext
from heliograph.coordinator.features.federated.deadlines import deadline_of
from heliograph.coordinator.features.federated.desired_tasks import training_parameters
from heliograph.coordinator.features.federated.joining import join_edge, join_participant, participation
from heliograph.coordinator.features.federated.transfers import Transfers
from heliograph.core.errors import Refused


class Participants:
    """Answers the requests ``join``, ``weights`` and ``upload`` of tasks.

    Args:
        joined: awaited once somebody has joined, before the answer.
    """

    def __init__(self, context: ControllerContext, joined: Callable[[], Awaitable[None]]) -> None:
        self._context = context
        self._joined = joined
        self._transfers = Transfers(context.port.bus, context.port.world)

    async def answer(
        self, task: FederatedTask, body: BaseModel, caller: str
    ) -> Participation | WeightsPart | UploadState:
        """Return the answer to a request about a task. Raise Refused."""
        name = participant_of(caller)
        if isinstance(body, Join):
            return await self._join(task, body, name)
        if not task.is_foreign(name):  # weights are nobody else's business
            raise Refused("not-joined", field="name", expected="a job that the participant has joined", got=task.name,
                          hint="Log in as participant-NAME, and ask 'join' first.")  # fmt: skip
        if isinstance(body, UploadWeights):
            model = task.status.model
            return await self._transfers.receive(name, body.digest, body.size, body.offset, body.data, model)
        assert isinstance(body, GetWeights)
        known = [ref for ref in (task.status.model, task.status.down) if ref is not None]
        ref = next((each for each in known if each.digest == body.digest), None)
        if ref is None:
            raise Refused("invalid", field="digest", got=body.digest, hint="Ask 'join' for the present round's model.",
                          expected=f"one of {', '.join(each.digest for each in known) or 'none yet'}")  # fmt: skip
        return await self._transfers.part(ref, body.offset)

    async def _join(self, task: FederatedTask, body: Join, name: str) -> Participation:
        """Let an edge take part, or the participant of that name; answer what it has to do now."""
        topic, view = topics.REQUEST.at(resource=task.plural, verb="join"), self._context.view
        edge = body.edge or name
        if not edge:
            raise Refused("invalid", topic=topic, field="edge", expected="the edge that joins", got="nothing",
                          hint="A client that trains by itself logs in as participant-NAME.")  # fmt: skip
        if name and edge != name:
            raise Refused("invalid", topic=topic, field="edge", expected=f"none, or {name}, the participant itself",
                          got=edge)  # fmt: skip
        known = task.status.joined.get(edge)
        samples = body.num_samples or (known.samples if known is not None else 0)
        if name and not samples and task.status.phase not in ENDED:
            raise Refused("invalid", topic=topic, field="num_samples", expected="the samples that you train on",
                          got="nothing")  # fmt: skip

        def decide(task: FederatedTask) -> FederatedTask:
            body.check(task)
            if name:
                return join_participant(task, name, samples, view(), topic)
            return join_edge(task, edge, body.dataset, view(), topic)

        if body.dry_run:
            task = decide(task)
        elif (step := await self._context.step(FederatedTask, task.name, decide)) is not None:
            before, task = step
            if task is not before:
                await self._joined()
                task = self._context.store.get(FederatedTask, task.name) or task
        parameters = training_parameters(task, view().algorithms(task.spec.aggregation_worker.node_name))
        return participation(task, edge, parameters, deadline_of(task), view().online(edge))
