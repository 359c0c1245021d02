"""A label queue's requests on an in-memory bucket: leases, labels, agreement, faults."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import label_requests as requests
from heliograph.bus.contract.payloads import Annotation, LabelTask, Prediction, Result
from heliograph.bus.contract.resources.label_queue import LabelQueueSpec
from heliograph.core.errors import Conflict, Refused, Unreachable
from heliograph.core.world import World
from heliograph.labelling.acceptance import is_held_out
from heliograph.labelling.numbers import agreement_of, status_of
from heliograph.labelling.samples import Sample
from heliograph.labelling.task_index import TaskIndex
from heliograph.labelling.task_queue import TaskQueue

CLASSES = ["cat", "dog", "owl"]
_names = count()


@dataclass
class Played:
    """A queue with a clock that the test moves, and what it published."""

    spec: dict[str, Any] = field(default_factory=dict)
    clock: float = 1_000_000.0
    published: list[LabelTask | Annotation] = field(default_factory=list)
    cut: bool = False

    async def open(self) -> Played:
        self.world = World(now=lambda: self.clock)
        self.bus = connect(f"memory://labels-{next(_names)}", world=self.world, name="labels")
        await self.bus.open()
        self.tasks, self.samples = await self.bus.kv("labels"), await self.bus.kv("label-samples")
        self.queue = self.made()
        return self

    def made(self) -> TaskQueue:
        spec = LabelQueueSpec.model_validate({"labelSchema": {"classes": CLASSES}, "leaseSeconds": 60} | self.spec)
        index = TaskIndex("job", "uid", spec, self.tasks, self.samples, self.world, lambda: None)
        return TaskQueue("job", "uid", index, self.world, self.publish)

    async def started_again(self) -> None:
        """Replace the queue by one that has read what is stored, as the next coordinator does."""
        self.queue = self.made()
        assert self.queue.load(await self.tasks.entries("uid.")) == []

    async def publish(self, payloads: Any) -> None:
        if self.cut:
            raise Unreachable("the broker is away")
        self.published += payloads

    async def add(self, text: str, *predictions: Prediction) -> str:
        content = text.encode()
        sample = Sample(hashlib.sha256(content).hexdigest(), "text/plain", content)
        task = LabelTask(job="job", queue_uid="uid", task=sample.digest, edge="edge-1", data=sample.data,
                         predictions=list(predictions))  # fmt: skip
        await self.queue.add(task, sample)
        return sample.digest

    async def claim(self, labeller: str, count: int = 1, source: str = "human") -> list[requests.ClaimedTask]:
        body = requests.ClaimTasks(name="job", labeller=labeller, count=count, source=source)  # type: ignore[arg-type]
        found = await self.queue.answer("claim", body, "operator")
        assert isinstance(found, requests.Claimed)
        return found.tasks

    async def submit(self, lease: str | None, value: Any, login: str = "operator", **fields: Any) -> Annotation:
        body = requests.SubmitLabel(name="job", lease=lease, result=Result(type="choice", value=value), **fields)
        found = await self.queue.answer("submit", body, login)
        assert isinstance(found, requests.Submitted)
        return found.annotation

    async def label(self, labeller: str, value: str, **fields: Any) -> Annotation:
        (claimed,) = await self.claim(labeller)
        return await self.submit(claimed.lease, value, **fields)

    async def refusal(self, verb: str, **fields: Any) -> str:
        bodies = {"submit": requests.SubmitLabel, "renew": requests.RenewLease, "skip": requests.SkipTask}
        if "value" in fields:
            fields["result"] = Result(type="choice", value=fields.pop("value"))
        with pytest.raises(Refused) as refused:
            await self.queue.answer(verb, bodies[verb](name="job", **fields), fields.pop("login", "operator"))
        return refused.value.code

    async def page(self, **fields: Any) -> requests.TaskPage:
        found = await self.queue.answer("tasks", requests.ListTasks(name="job", **fields), "")
        assert isinstance(found, requests.TaskPage)
        return found


async def test_a_sample_is_claimed_labelled_and_told() -> None:
    it = await Played().open()
    task = await it.add("miau")
    (claimed,) = await it.claim("anna")
    assert (claimed.task.task, claimed.task.data.inline) == (task, b"miau")
    assert await it.claim("bert") == []  # it is given to one labeller
    given = await it.submit(claimed.lease, "cat", lead_time=2.5)
    assert (given.phase, given.consensus, given.labeller) == ("labelled", Result(type="choice", value="cat"), "anna")
    assert it.published[1:] == [given]
    assert await it.submit(claimed.lease, "cat", lead_time=2.5) == given  # the answer was lost: the same again
    assert await it.refusal("submit", lease=claimed.lease, value="dog") == "lease-used"
    assert [each.phase for each in (await it.page()).tasks] == ["labelled"]


async def test_the_same_sample_twice_is_one_task() -> None:
    it = await Played().open()
    assert await it.add("x") == await it.add("x")
    assert (len(it.queue.index.open), it.queue.repeated, len(it.published)) == (1, 1, 1)


async def test_an_expired_lease_frees_its_task_at_once() -> None:
    """Its labeller has died, or was too slow: the label is refused, and the next labeller gets the task."""
    it = await Played().open()
    await it.add("x")
    (slow,) = await it.claim("anna")
    it.clock += 59
    await it.queue.answer("renew", requests.RenewLease(name="job", lease=slow.lease), "")
    it.clock += 59
    assert await it.claim("bert") == []  # the lease was renewed
    it.clock += 1
    (quick,) = await it.claim("bert")
    assert await it.refusal("submit", lease=slow.lease, value="cat") == "lease-expired"
    assert await it.refusal("renew", lease=slow.lease) == "lease-expired"
    assert (await it.submit(quick.lease, "cat")).labeller == "bert"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"lease": "nothing", "value": "cat"}, "unknown-lease"),
        ({"lease": "own", "value": "cow"}, "unknown-class"),
        ({"lease": "own", "value": ["cat"]}, "unknown-class"),
        ({"lease": "own", "value": "cat", "task": "0" * 64}, "unknown-task"),
        ({"lease": "own", "value": "cat", "ground_truth": True}, "not-a-reviewer"),
        ({"value": "cat"}, "invalid"),
        ({"value": "cat", "task": "0" * 64, "supersedes": "x"}, "unknown-task"),
        ({"value": "cat", "task": "own", "supersedes": "x"}, "unknown-label"),
    ],
)
async def test_a_label_that_does_not_fit_is_refused_and_changes_nothing(fields: dict[str, Any], code: str) -> None:
    it = await Played().open()
    task = await it.add("x")
    (claimed,) = await it.claim("anna")
    own = {"lease": claimed.lease, "task": task}
    fields = {key: own[key] if value == "own" else value for key, value in fields.items()}
    before = await it.tasks.entries()
    assert await it.refusal("submit", **fields) == code
    assert await it.tasks.entries() == before
    assert (await it.submit(claimed.lease, "cat")).phase == "labelled"


async def test_nobody_is_given_a_task_twice() -> None:
    """Neither after a label, nor after a skip; released, anybody may have it."""
    it = await Played({"overlap": 3}).open()
    await it.add("x")
    await it.label("anna", "cat")
    (skipped,) = await it.claim("bert")
    await it.queue.answer("skip", requests.SkipTask(name="job", lease=skipped.lease, reason="blurred"), "")
    (released,) = await it.claim("carl")
    await it.queue.answer("release", requests.ReleaseLease(name="job", lease=released.lease), "")
    assert [await it.claim(each) for each in ("anna", "bert")] == [[], []]
    assert len(await it.claim("carl")) == 1
    assert isinstance(it.published[-1], Annotation) and it.published[-1].reason == "blurred"
    await it.started_again()
    assert [await it.claim(each) for each in ("anna", "bert", "carl")] == [[], [], []]


async def test_labels_that_differ_ask_one_more_and_a_conflict_keeps_them_all() -> None:
    it = await Played({"overlap": 2, "agreement": {"extra": 1}}).open()
    await it.add("x")
    await it.label("anna", "cat")
    assert (await it.label("bert", "dog")).phase == "open"  # half of two is no majority
    assert (await it.label("carl", "owl")).phase == "conflict"
    assert await it.claim("dora") == []
    (record,) = (await it.page(phase="conflict")).tasks
    assert [each.result and each.result.value for each in record.annotations] == ["cat", "dog", "owl"]


async def test_a_labeller_replaces_its_own_label_and_no_other() -> None:
    it = await Played({"overlap": 2}).open()
    task = await it.add("x")
    first = await it.label("anna", "cat")
    other = await it.label("bert", "dog")
    changed = await it.submit(None, "dog", task=task, labeller="anna", supersedes=first.annotation)
    assert (changed.phase, changed.supersedes) == ("labelled", first.annotation)
    again = {"value": "owl", "task": task, "labeller": "anna"}
    assert await it.refusal("submit", **again, supersedes=first.annotation) == "superseded"
    assert await it.refusal("submit", **again, supersedes=other.annotation) == "not-yours"
    with pytest.raises(Refused, match="login"):
        await it.submit(None, "owl", login="mallory", task=task, labeller="anna", supersedes=changed.annotation)


async def test_a_reviewer_and_an_oracle_settle_a_task_alone() -> None:
    it = await Played({"overlap": 3, "reviewers": ["chief"]}).open()
    task = await it.add("x")
    await it.label("anna", "cat")
    known = await it.submit(None, "dog", login="chief", task=task, labeller="chief", ground_truth=True)
    assert known.consensus == Result(type="choice", value="dog")
    await it.add("y")
    (claimed,) = await it.claim("file", source="oracle")
    assert (await it.submit(claimed.lease, "owl")).ground_truth


async def test_a_full_queue_counts_what_it_leaves_out() -> None:
    it = await Played({"mostTasks": 1}).open()
    await it.add("x")
    await it.add("y")
    status = status_of(it.queue, agreement_of([], it.queue.spec.label_schema), _no_status(), "")
    assert (status.waiting, status.left_out) == (1, 1)
    assert [each.reason for each in status.conditions if each.status == "False"] == ["Full"]


@pytest.mark.parametrize("again", [False, True], ids=["the-same", "the-next"])
async def test_a_lease_by_a_clock_that_was_ahead_ends_like_one_that_is_given_now(again: bool) -> None:
    it = await Played().open()
    await it.add("miau")
    it.clock += 3600
    (claimed,) = await it.claim("anna")
    it.clock -= 3600
    if again:
        await it.started_again()
    assert await it.claim("bert") == []
    it.clock += 59
    assert await it.claim("bert") == []
    it.clock += 2
    (other,) = await it.claim("bert")
    assert other.task.task == claimed.task.task
    assert await it.refusal("submit", lease=claimed.lease, value="cat") == "lease-expired"


async def test_a_new_coordinator_goes_on_with_leases_and_tells_what_was_not_told() -> None:
    it = await Played().open()
    await it.add("x")
    await it.add("y")
    (first, second) = await it.claim("anna", count=2)
    it.cut = True
    with pytest.raises(Unreachable):
        await it.submit(first.lease, "cat")
    it.cut = False
    await it.started_again()
    assert await it.claim("bert") == []
    told = len(it.published)
    await it.queue.labels.tell()
    (late,) = it.published[told:]
    assert isinstance(late, Annotation) and late.task == first.task.task
    assert (await it.submit(first.lease, "cat")) == late
    assert (await it.submit(second.lease, "dog")).phase == "labelled"
    await it.queue.labels.tell()
    await it.started_again()
    await it.queue.labels.tell()
    assert len(it.published) == told + 2  # nothing is told again that is known to be told


async def test_two_coordinators_never_give_one_task_to_two() -> None:
    """One that has lost its lease without knowing it is told so by the compare-and-set."""
    it = await Played().open()
    await it.add("x")
    stale = it.queue
    await it.started_again()
    await it.claim("anna")
    it.queue = stale
    with pytest.raises(Conflict):
        await it.claim("bert")
    assert await it.claim("bert") == []


async def test_batches_open_at_their_times() -> None:
    it = await Played({"batches": {"everySeconds": 100, "size": 2}}).open()
    for text in "abc":
        await it.add(text)
    assert (await it.claim("anna", count=9), it.queue.index.later) == ([], 3)
    await it.started_again()
    it.clock += 100
    assert len(await it.claim("anna", count=9)) == 2
    it.clock += 100
    assert len(await it.claim("bert", count=9)) == 3  # the leases of the others have ended


async def test_a_big_model_labels_above_the_bar_that_held_out_labels_show() -> None:
    """It is right above a confidence of 0.8 and guesses below."""
    it = await Played({"proposals": {"precision": 0.9, "leastLabels": 20, "heldOut": 0.5}}).open()
    texts = [f"sample {n}" for n in range(200)]
    scores = {text: 0.5 + n % 50 / 100 for n, text in enumerate(texts)}
    assert it.queue.index.bar is None
    for text in texts:
        said = Result(type="choice", value="cat")
        await it.add(text, Prediction(model="big", score=scores[text], result=said))
    assert it.queue.index.bar is None  # nothing is accepted before people have labelled
    for claimed in await it.claim("anna", count=64) + await it.claim("anna", count=64) + await it.claim("anna", 64):
        text = (claimed.task.data.inline or b"").decode()
        if is_held_out(claimed.task.task, 0.5):
            await it.submit(claimed.lease, "cat" if scores[text] >= 0.8 else "dog")
        else:
            await it.queue.answer("release", requests.ReleaseLease(name="job", lease=claimed.lease), "")
    assert it.queue.index.bar == pytest.approx(0.8, abs=0.05)
    prediction = Prediction(model="big", score=0.97, result=Result(type="choice", value="cat"))
    fresh = await it.add("fresh", prediction)
    held_out = next(f"new {n}" for n in count() if is_held_out(hashlib.sha256(f"new {n}".encode()).hexdigest(), 0.5))
    kept = await it.add(held_out, prediction)
    labelled = [each for each in it.published if isinstance(each, Annotation) and each.source == "model"]
    assert [each.task for each in labelled] == [fresh] if not is_held_out(fresh, 0.5) else not labelled
    assert kept in it.queue.index.open


async def test_pages_go_on_where_the_last_one_ended() -> None:
    it = await Played().open()
    texts = [await it.add(f"{n}") for n in range(5)]
    first = await it.page(limit=3)
    rest = await it.page(limit=3, after=first.after)
    assert [each.task.task for each in (*first.tasks, *rest.tasks)] == texts
    assert rest.after is None


async def test_settled_tasks_are_deleted_after_their_time() -> None:
    it = await Played({"keepDays": 1}).open()
    await it.add("x")
    await it.add("y")
    await it.label("anna", "cat")
    it.clock += 86401
    await it.queue.forget_old()
    assert [len(await each.entries()) for each in (it.tasks, it.samples)] == [1, 1]


def _no_status() -> Any:
    from heliograph.bus.contract.resources.label_queue import LabelQueueStatus

    return LabelQueueStatus()


async def test_labels_of_several_edges_settle_their_task_edge_by_edge() -> None:
    """Also after a start on what is stored. A label of a reviewer settles the task alone."""
    it = await Played({"location": "edge", "overlap": 2}).open()
    task = "a" * 64

    async def mirror(edge: str, labeller: str, value: str, **more: Any) -> requests.TaskRecord:
        label = Annotation(job="job", queue_uid="uid", task=task, annotation=f"{edge}-{labeller}", labeller=labeller,
                           source="human", result=Result(type="choice", value=value), **more)  # fmt: skip
        await it.queue.mirror(label, edge)
        await it.started_again()
        return (await it.queue.answer("tasks", requests.ListTasks(name="job"), "")).tasks[0]  # type: ignore[attr-defined,no-any-return]

    assert (await mirror("edge-1", "anna", "cat")).phase == "open"
    assert (await mirror("edge-2", "anna", "cat")).phase == "open", "each edge asks for another labeller"
    settled = await mirror("edge-1", "bert", "cat")
    assert (settled.phase, settled.consensus and settled.consensus.value) == ("labelled", "cat")
    assert (await mirror("edge-2", "bert", "dog")).phase == "labelled", "edge-2 asks a third labeller"
    assert (await mirror("edge-2", "carl", "dog")).phase == "conflict"
    last = await mirror("edge-2", "dora", "owl", ground_truth=True)
    assert (last.phase, last.consensus and last.consensus.value) == ("labelled", "owl")
