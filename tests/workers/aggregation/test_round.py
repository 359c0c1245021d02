"""A round's updates: each edge counts exactly once, even if updates are repeated or reordered."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import ModelUpdate, RoundSpec
from heliograph.bus.contract.resources import WeightsRef
from heliograph.workers.aggregation.round import Collection, Staged

EDGES = ["edge-1", "edge-2", "edge-3"]


def _spec(**changes: Any) -> RoundSpec:
    return RoundSpec(**({"participants": EDGES, "reachable": EDGES, "deadline_seconds": 10.0} | changes))


def _collection(spec: RoundSpec | None = None, min_updates: int = 1) -> Collection:
    return Collection("uid", 3, "a" * 64, spec or _spec(), min_updates, began=0.0)


def _update(edge: str, round: int = 3, content: str = "b") -> ModelUpdate:
    ref = WeightsRef(digest=content * 64, size=1, inline=b"x")
    return ModelUpdate(job="job", job_uid="uid", round=round, edge=edge, base="a" * 64, weights=ref, num_samples=1)


def _stage(collection: Collection, edge: str) -> None:
    update = _update(edge)
    assert collection.judge(update, edge)[0] == "stage"
    collection.staged[edge] = Staged(update, 1, b"", {})


@given(
    st.lists(st.tuples(st.sampled_from([*EDGES, "stranger"]), st.integers(1, 5), st.sampled_from("bc")), max_size=40)
)
def test_each_edge_is_staged_at_most_once(sent: list[tuple[str, int, str]]) -> None:
    collection = _collection()
    staged: list[str] = []
    for edge, round, content in sent:
        update = _update(edge, round, content)
        judgement, reason = collection.judge(update, edge)
        if judgement == "stage":
            assert round == 3 and edge in EDGES
            staged.append(edge)
            collection.staged[edge] = Staged(update, 1, b"", {})
        elif judgement == "refused":
            assert reason
            collection.refuse(edge, round, reason)
        elif judgement == "uninvited":
            assert edge == "stranger"
        elif judgement == "late":
            assert round < 3
        elif judgement == "ahead":
            assert round == 4
        else:
            assert edge in staged or any(each.edge == edge for each in collection.refused)
    assert len(staged) == len(set(staged))


def test_it_closes_when_every_reachable_participant_has_answered() -> None:
    collection = _collection(_spec(reachable=EDGES[:2]))
    _stage(collection, "edge-1")
    assert collection.close_reason(0) is None
    collection.refuse("edge-2", 3, "nan")
    assert collection.close_reason(0) == "complete"


def test_a_round_waits_for_an_update_that_is_staging() -> None:
    collection = _collection(_spec(participants=["edge-1"], reachable=["edge-1"]))
    collection.staging["edge-1"] = _update("edge-1")
    assert collection.close_reason(99) is None


def test_the_quorum_closes_early_and_the_deadline_late() -> None:
    collection = _collection(_spec(quorum=2))
    _stage(collection, "edge-1")
    assert collection.close_reason(9.9) is None
    assert collection.close_reason(10.0) == "deadline"
    _stage(collection, "edge-2")
    assert collection.close_reason(0) == "quorum"


def test_the_deadline_does_not_close_with_fewer_than_the_least() -> None:
    collection = _collection(min_updates=2)
    _stage(collection, "edge-1")
    assert collection.close_reason(99) is None
    _stage(collection, "edge-2")
    assert collection.close_reason(99) == "deadline"


def test_a_round_does_not_wait_beyond_the_deadline_for_weights_that_never_come() -> None:
    collection = _collection()
    collection.staging["edge-2"] = _update("edge-2")
    _stage(collection, "edge-1")
    assert collection.close_reason(9.9) is None
    assert collection.close_reason(10.0) == "deadline"
    assert collection.mark_staging_late() == ["edge-2"]
    assert not collection.staging
    assert [(each.edge, each.round) for each in collection.late] == [("edge-2", 3)]


def test_nobody_reachable_is_not_everybody_answered() -> None:
    collection = _collection(_spec(reachable=[]))
    _stage(collection, "edge-1")
    assert collection.close_reason(0) is None
    assert collection.close_reason(10) == "deadline"


def test_all_refused_closes_with_nothing_counted() -> None:
    collection = _collection()
    for edge in EDGES:
        collection.refuse(edge, 3, "nan")
    assert collection.close_reason(0) == "complete"
    assert not collection.staged


@given(st.floats(0, 20), st.integers(0, 3))
def test_a_round_closes_or_knows_its_deadline(now: float, staged: int) -> None:
    collection = _collection(min_updates=1)
    for edge in EDGES[:staged]:
        _stage(collection, edge)
    if collection.close_reason(now) is None and staged:
        due = collection.seconds_to_deadline(now)
        assert due is not None
        assert collection.close_reason(max(collection.deadline, now + due)) is not None


def test_past_its_deadline_an_empty_round_waits_for_an_update() -> None:
    collection = _collection()
    assert collection.seconds_to_deadline(9.5) == 0.5
    assert collection.close_reason(10.0) is None
    assert collection.seconds_to_deadline(10.0) is None
    _stage(collection, "edge-1")
    assert collection.close_reason(10.0) == "deadline"


def test_a_refused_second_update_leaves_the_first_one_staging() -> None:
    collection = _collection()
    first = _update("edge-1", content="b")
    assert collection.judge(first, "edge-1") == ("stage", "")
    collection.staging["edge-1"] = first
    judgement, reason = collection.judge(_update("edge-1", content="c"), "edge-1")
    assert judgement == "refused"
    collection.refuse("edge-1", 3, reason)
    assert collection.staging == {"edge-1": first}
    assert collection.close_reason(11.0) is None  # waits until the first update is known to count or not


def test_an_update_of_an_earlier_job_of_that_name_answers_for_nobody() -> None:
    collection = _collection()
    stale = _update(EDGES[0]).model_copy(update={"job_uid": "earlier"})
    assert collection.judge(stale, EDGES[0])[0] == "foreign"
    assert collection.judge(_update(EDGES[0]), EDGES[0])[0] == "stage"


def test_of_several_beginnings_one_is_kept_and_the_others_are_freed() -> None:
    collection = _collection(_spec(quorum=1))
    for edge in ("edge-3", "edge-2"):
        _stage(collection, edge)
    blob = WeightsRef(digest="d" * 64, size=9, bucket="uploads-edge-1")
    large = _update("edge-1").model_copy(update={"weights": blob})
    collection.staged["edge-1"] = Staged(large.model_copy(update={"edge": "edge-1"}), 1, b"", {})
    assert collection.close_reason(0.0) == "quorum"
    collection.staged["edge-0"] = collection.staged.pop("edge-2")
    collection.keep_one_start()
    assert [*collection.staged] == ["edge-0"]
    noted = [(each.edge, each.reason, each.digest) for each in collection.late]
    reason = "the initial weights of edge-0 were taken"
    assert noted == [("edge-1", reason, "d" * 64), ("edge-3", reason, "")]
    collection.staged.clear()
    collection.keep_one_start()
    assert collection.staged == {}
