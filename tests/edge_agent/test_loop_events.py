"""What a node's loops take from its workers' events, in virtual time: drifts of their own models, and the weights of
candidates, which stay here also when their job is over."""

from __future__ import annotations

from typing import Any

from heliograph.bus.contract.event import decode
from heliograph.bus.contract.topics import CANDIDATE
from tests.edge_agent.loops_on_node import BASE, OTHER, UID, Loops, candidate_of


def test_a_drift_of_the_served_model_begins_a_round(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID, train={"drift": {"of": "scores", "detector": "page-hinkley"}})
        assert await it.rounds() == 0
        now = it.node.world.now()
        it.sees(OTHER, page_hinkley=now + 1)  # a model of another job on this node
        assert await it.rounds() == 0
        it.sees(BASE, psi=now + 1)  # another detector than the job's
        assert await it.rounds() == 0
        it.sees(BASE, page_hinkley=now - 1)  # before the loop began
        assert await it.rounds() == 0
        it.sees(BASE, page_hinkley=now + 1)
        assert await it.rounds() == 1

    on_loops(test)


def test_a_candidates_weights_stay_here_while_its_job_runs_and_after(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID)
        await it.node.settled()
        of_job = it.take(CANDIDATE, candidate_of(UID))
        assert len(of_job.documents) == 1 and b"inline" not in of_job.body  # the whole of it is the loop's
        it.follow()  # the job has ended, and its worker sends what it has just made
        await it.node.settled()
        late = it.take(CANDIDATE, candidate_of(UID))
        told = CANDIDATE.validate(decode(late.body).data, late.topic)
        assert not late.documents and told.weights.inline is None and told.memory is None
        assert told.weights.digest == candidate_of(UID).weights.digest  # what is told is that it was made
        it.follow("uid-2")  # another job of that name
        late = it.take(CANDIDATE, candidate_of(UID))
        assert not late.documents and CANDIDATE.validate(decode(late.body).data, late.topic).memory is None

    on_loops(test)


def test_a_candidate_of_a_job_in_the_cloud_passes_whole(on_loops: Any) -> None:
    async def test(it: Loops) -> None:
        it.follow(UID)
        await it.node.settled()
        whole = it.take(CANDIDATE, candidate_of("uid-of-the-cloud"))
        assert whole.body == b"the whole event" and not whole.documents

    on_loops(test)
