"""Models fetched ahead for the jobs of this node, while it works for them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from heliograph.bus.contract.payloads import AggregateTask, ModelReady, RoundSpec, TrainTask, WorkerTask
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import MODEL_READY
from heliograph.bus.transport import Message
from heliograph.core.errors import Refused
from heliograph.core.tasks import keep_running
from heliograph.edge_agent.model_prefetcher import ModelPrefetcher
from tests.virtual_node import EDGE


def _model(letter: str, inline: bytes | None = None) -> WeightsRef:
    return WeightsRef(digest=letter * 64, size=10**6, bucket=None if inline else "models", inline=inline)


FIRST = _model("0")


def _task(job: str = "job", model: WeightsRef | None = FIRST, uid: str = "u") -> WorkerTask:
    return TrainTask(worker=f"{job}-worker", job=job, job_uid=uid, round=1, model=model)


class Prefetching:
    def __init__(self, node: Any) -> None:
        self.node = node
        self.fetched: list[str] = []
        self.refused: list[Refused] = []
        self.settled: list[str] = []
        self.prefetcher = ModelPrefetcher(node.cloud, EDGE, lambda ref: self.fetched.append(ref.digest[0]),
                                          self._settle, self.refused.append)  # fmt: skip
        self._following = node.start(keep_running(self.prefetcher.run, node.world, node.logged.append))

    async def _settle(self, digests: Collection[str]) -> None:
        self.settled += digests

    async def follow(self, *tasks: WorkerTask) -> None:
        self.prefetcher.follow(tasks)
        await self.node.settled()

    async def closed(self, model: WeightsRef, job: str = "job", uid: str = "u", edge: str = EDGE) -> None:
        """Close a round of a job."""
        ready = ModelReady(job=job, job_uid=uid, round=1, model=model, settled=["5" * 64])
        await self.node.coordinator.publish(MODEL_READY, ready, edge=edge, job=job)
        await self.node.settled()


def _prefetching(on_node: Any, test: Callable[[Prefetching], Any]) -> None:
    async def main(node: Any) -> None:
        prefetching = Prefetching(node)
        await node.settled()
        await test(prefetching)

    on_node(main)


def test_the_result_of_a_round_is_fetched_when_it_is_closed(on_node: Any) -> None:
    async def test(it: Prefetching) -> None:
        await it.follow(_task())
        await it.follow(_task())  # each job is followed once
        await it.closed(_model("a"))
        assert (it.fetched, it.prefetcher.expected) == (["a"], {"a" * 64})
        await it.closed(_model("b"))
        assert (it.fetched, it.prefetcher.expected) == (["a", "b"], {"b" * 64})
        assert it.settled == ["5" * 64] * 2

    _prefetching(on_node, test)


def test_models_of_other_jobs_and_of_an_earlier_job_of_that_name_are_not_fetched(on_node: Any) -> None:
    async def test(it: Prefetching) -> None:
        await it.follow(_task())
        await it.closed(_model("a"), job="other")
        await it.closed(_model("a"), uid="earlier")
        await it.closed(_model("a"), edge="edge-2")
        await it.closed(_model("a", inline=b"small"))
        assert (it.fetched, it.prefetcher.expected) == ([], set())

    _prefetching(on_node, test)


def test_jobs_without_a_model_to_fetch_are_not_followed(on_node: Any) -> None:
    async def test(it: Prefetching) -> None:
        collect = RoundSpec(participants=[], reachable=[], deadline_seconds=1)
        aggregate = AggregateTask(worker="w", job="aggregated", job_uid="u", round=1, model=FIRST, collect=collect)
        await it.follow(_task("small", _model("0", b"small")), _task("first", None), aggregate)
        for job in ("small", "first", "aggregated"):
            await it.closed(_model("a"), job)
        assert it.fetched == []

    _prefetching(on_node, test)


def test_a_job_that_has_ended_here_is_followed_no_more_and_its_model_no_longer_expected(on_node: Any) -> None:
    async def test(it: Prefetching) -> None:
        await it.follow(_task(), _task("other"))
        await it.closed(_model("a"))
        await it.follow(_task("other"))
        await it.closed(_model("b"))
        assert (it.fetched, it.prefetcher.expected) == (["a"], set())
        await it.closed(_model("c"), "other")
        assert it.fetched == ["a", "c"]

    _prefetching(on_node, test)


def test_it_continues_after_an_invalid_message_and_a_lost_link(on_node: Any) -> None:
    async def test(it: Prefetching) -> None:
        it.node.cloud.bus.lost()
        await it.follow(_task())
        it.node.cloud.bus.connect()
        await it.node.settled()
        address = MODEL_READY.at(edge=EDGE, job="job")
        it.node.cloud_broker.publish(address, Message(address, b"no event"))
        await it.closed(_model("a"))
        assert (it.fetched, len(it.refused)) == (["a"], 1)

    _prefetching(on_node, test)
