"""The label queues whose location is the edge: the agent hands out this node's hard samples on the node's broker.

Samples stay on the node, leases and labels lie in the journal, and all of it works with no link. What goes to the cloud
is that a sample was hard, that its task exists, and each label.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from heliograph.bus.contract import buckets, payloads, resources
from heliograph.bus.contract.event import Event, encode, from_tree, is_event, parse
from heliograph.bus.contract.payloads import Desired, Generation
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.resources import Metadata, dump, refusal_of
from heliograph.bus.contract.sizes import check_size
from heliograph.bus.contract.topics import HARD_SAMPLE, LABEL, LABEL_TASK, REQUEST, Topic
from heliograph.bus.port import Port
from heliograph.bus.reply import caller_of, reply_of
from heliograph.bus.transport import Message, require_live
from heliograph.core.errors import HeliographError, Refused, error_body
from heliograph.core.failures import Failures, sentence_of
from heliograph.core.tasks import Flag, wait_for
from heliograph.edge_agent.deleted_queues import DeletedQueues
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.label_store import JournalBucket

if TYPE_CHECKING:  # the rest is loaded with the first queue: few nodes have any
    from heliograph.bus.contract.payloads import Annotation, EdgeQueue, HardSample, LabelTask
    from heliograph.bus.contract.resources import LabelQueue, LabelSchema
    from heliograph.incremental.shards import LabelledSample
    from heliograph.labelling.task_queue import TaskQueue

TELL_EVERY = 60.0
"""Seconds after which ended leases are looked for though nobody asks."""


class EdgeLabelling:
    """This edge's label queues.

    Args:
        refused: called with (topic, error) for a request that cannot be answered.
    """

    def __init__(
        self, node: Port, edge: str, journal: Journal, refused: Callable[[str, Exception], None], failures: Failures
    ) -> None:
        self._node = node
        self._world = node.world
        self._edge = edge
        self._journal = journal
        self._refused = refused
        self._failures = failures
        self._tasks = JournalBucket(journal, buckets.LABELS)
        self._samples = JournalBucket(journal, buckets.SAMPLES)
        self._queues: dict[str, TaskQueue] = {}
        """By name."""
        self._changed = Flag()
        self._listeners: list[Callable[[], None]] = []
        self._deleted = DeletedQueues(self._tasks, self._samples, self._publish)
        self._follows: tuple[Mapping[str, EdgeQueue], tuple[str, ...], bool] = {}, (), False
        """Queues by name, the names that are set aside, and whether the cloud has told it in this life."""
        self._looks_for_deleted = False

    def follow(self, desired: Desired, is_present: bool) -> None:
        """Take over the queues of the desired document; one that this version cannot read stays as it is.

        Args:
            is_present: whether the document is the cloud's present one; what belongs to no queue of an older one stays.
        """
        is_told = is_present and desired.generation != Generation()  # an edge without a document knows of no queue
        follows = desired.label_queues, desired.unsupported_queues, is_told
        if follows == self._follows:
            return
        self._follows = follows
        for name in self._queues.keys() - desired.label_queues.keys() - set(desired.unsupported_queues):
            del self._queues[name]
        for name, wanted in desired.label_queues.items():
            known = self._queues.get(name)
            if known is None or known.uid != wanted.uid:
                self._queues[name] = self._opened(name, wanted)
            else:
                known.index.follow(wanted.spec)
        if is_told:
            self._looks_for_deleted = True
            self._changed.set()

    def hold_back(self, topic: Topic[Any], event: Event, entry: NewEvent) -> NewEvent:
        """Return what is journalled for an event: itself, or, for a hard sample of a queue here, what is left of it
        without the sample. Its task is journalled before.

        The task and its sample are saved in the commit of the event that tells of them.
        """
        if topic is not HARD_SAMPLE or not self._queues:
            return entry
        hard = HARD_SAMPLE.validate(event.data, entry.topic)
        queue = self._queues.get(hard.job)
        if queue is None:
            return entry
        stripped = hard.model_copy(update={"data": None, "tensor": None, "text": None, "columns": None})
        bare = Event(id=event.id, source=event.source, type=event.type, data=_data(stripped), time=event.time,
                     subject=event.subject, sequence=event.sequence, traceparent=event.traceparent)  # fmt: skip
        self._make(queue, hard)
        return NewEvent(entry.topic, encode(bare), entry.lane, entry.producer, entry.incarnation, entry.sequence)

    def listen(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a queue has."""
        self._listeners.append(changed)

    def settled(self, name: str) -> list[str]:
        """Return the tasks of a queue with a label, in the order of their labels."""
        queue = self._queues.get(name)
        if queue is None:
            return []
        found = [(each.settled_at, each.number, task) for task, each in queue.index.summaries.items()
                 if each.phase == "labelled"]  # fmt: skip
        return [task for _, _, task in sorted(found)]

    def schema_of(self, name: str) -> LabelSchema | None:
        """Return the label schema of a queue; None where there is none of that name."""
        queue = self._queues.get(name)
        return queue.spec.label_schema if queue is not None else None

    async def labelled(self, name: str, tasks: Sequence[str], classes: Sequence[str]) -> list[LabelledSample]:
        """Return these tasks' samples with their labels; those that are gone, or that no model learns, are left out."""
        from heliograph.incremental.labelled import labelled_sample

        queue = self._queues.get(name)
        index = {each: place for place, each in enumerate(classes)}
        found = []
        for task in tasks if queue is not None else ():
            state = await queue.index.found(task) if queue is not None else None
            content = await self._samples.get(f"{queue.uid}.{task}") if queue is not None else None
            if state is not None and content is not None:
                sample = labelled_sample(state, content.value, index)
                found += [sample] if sample is not None else []
        return found

    async def run(self) -> None:
        """Answer labellers until cancelled."""
        async with self._node.bus.subscribe(REQUEST.filter(resource="labels")) as messages:
            async for message in messages:
                try:
                    await self._answer(message)
                except Exception as error:  # the message's own
                    self._refused(message.topic, error)

    async def keep(self) -> None:
        """Publish labels that a fault left unpublished, and delete old tasks and deleted queues, until cancelled."""
        while True:
            is_due = self._queues or self._looks_for_deleted
            await wait_for(self._changed, TELL_EVERY) if is_due else await self._changed.wait()
            self._changed.clear()
            if self._looks_for_deleted:
                await self._forget_deleted()
            for queue in [*self._queues.values()]:
                with self._failures.contain(f"label queue {queue.job}"):
                    await queue.labels.tell()
                    await queue.forget_old()
            await self._world.sleep(1.0)

    async def _forget_deleted(self) -> None:
        follows = self._follows
        try:
            await self._deleted.forget({queue.uid for queue in self._queues.values()}, follows[1])
        except HeliographError as error:  # the queues that are left go on, and the next look deletes the rest
            self._failures.add("deleted label queues", error)
            return
        self._looks_for_deleted = self._follows is not follows  # another document came meanwhile

    def _opened(self, name: str, wanted: EdgeQueue) -> TaskQueue:
        from heliograph.labelling.task_index import TaskIndex
        from heliograph.labelling.task_queue import TaskQueue

        index = TaskIndex(name, wanted.uid, wanted.spec, self._tasks, self._samples, self._world, self._on_change)
        queue = TaskQueue(name, wanted.uid, index, self._world, self._publish)
        for line in queue.load(self._tasks.stored(f"{wanted.uid}.")):
            self._failures.add(f"label queue {name}", HeliographError(line))
        self._changed.set()
        return queue

    def _on_change(self) -> None:
        self._changed.set()
        for changed in self._listeners:
            changed()

    def _make(self, queue: TaskQueue, hard: HardSample) -> None:
        """Journal the event of a new task, with the documents that make it, where there is a new one."""
        from heliograph.labelling.samples import predictions_of, sample_of
        from heliograph.labelling.task_index import packed

        sample = sample_of(hard)
        if sample is None:
            queue.leave_out()
            return
        schema = queue.spec.label_schema
        data = sample.data.model_copy(update={"edge": self._edge})
        task = payloads.LabelTask(
            job=queue.job, queue_uid=queue.uid, task=sample.digest, edge=self._edge, data=data,
            schema_version=schema.version, overlap=queue.spec.overlap, predictions=predictions_of(hard, schema),
            created=self._world.timestamp(),
        )  # fmt: skip
        state = queue.admit(task, sample)
        if state is None:
            return
        key = f"{queue.uid}.{sample.digest}"
        documents = {self._tasks.document(key): packed(state), self._samples.document(key): sample.content}

        def on_commit() -> None:  # a task that was claimed before would outlive its sample where the commit fails
            self._samples.wrote(key)
            queue.index.remember(state, self._tasks.wrote(key))

        def discard_unless_kept(kept: asyncio.Future[None]) -> None:
            if kept.cancelled() or kept.exception() is not None:  # its worker sends the sample again
                queue.index.discard(sample.digest)

        entry = self._event(LABEL_TASK, state.task, documents, on_commit)
        self._journal.append(entry).add_done_callback(discard_unless_kept)

    def _event(
        self, topic: Topic[Any], payload: BaseModel, documents: Mapping[str, bytes] | None = None,
        on_commit: Callable[[], None] | None = None,
    ) -> NewEvent:  # fmt: skip
        address = topic.at(edge=self._edge, job=payload.job)  # type: ignore[attr-defined]
        event = self._node.event(topic, payload, address)
        return NewEvent(address, encode(event), topic.lane, documents=documents or {}, on_commit=on_commit)

    async def _publish(self, told: Sequence[LabelTask] | Sequence[Annotation]) -> None:
        for each in told:
            await self._journal.append(self._event(LABEL_TASK if isinstance(each, payloads.LabelTask) else LABEL, each))

    async def _answer(self, message: Message) -> None:
        """Answer a request. Raise Refused where it names no reply address."""
        require_live(message)
        tree = parse(message.body, message.topic) if message.body.strip() else {}
        address = reply_of(message, tree, self._node.bus.root)
        body: dict[str, Any] = {"ok": True}
        try:
            check_size(REQUEST, message.topic, message.body)
            body["result"] = await self._result(message.topic, tree, caller_of(address, ""))
        except HeliographError as error:
            said = error.about(message.topic) if isinstance(error, Refused) else error
            body = {"ok": False, "error": error_body(said)}
        except Exception as error:
            body = {"ok": False, "error": {"code": "defect", "message": sentence_of(error, message.topic)}}
            self._failures.add(message.topic, error)
        # whoever asks waits only so long: a broker that syncs what it acknowledges would hold up the next request
        await self._node.bus.publish(address, json.dumps(body).encode(), correlation=message.correlation, sure=False)

    async def _result(self, topic: str, tree: Any, caller: str) -> Any:
        verb = (REQUEST.match(topic) or {}).get("verb", "")
        document = from_tree(tree, topic).data if is_event(tree) else tree
        if not isinstance(document, dict):
            raise Refused("invalid", topic=topic, expected="a mapping", got=document)
        document.pop("reply_to", None)
        if verb == "list":
            return [dump(self._resource(name)) for name in sorted(self._queues)]
        if verb == "get":
            self._found(document.get("name"))
            return dump(self._resource(str(document["name"])))
        own = declared().features[resources.LabelQueue.plural].own_verbs
        if verb not in own:
            raise Refused("unknown-verb", field="verb", expected=f"one of get, list, {', '.join(own)}", got=verb,
                          hint="Send other requests to the cloud.")  # fmt: skip
        try:
            body: Any = own[verb].body.model_validate(document)
        except ValidationError as error:
            raise refusal_of(error, topic) from None
        return dump(await self._found(body.name).answer(verb, body, caller))

    def _found(self, name: object) -> TaskQueue:
        queue = self._queues.get(name) if isinstance(name, str) else None
        if queue is None:
            known = ", ".join(sorted(self._queues)) or "none"
            raise Refused("not-found", field="name", expected=f"a label queue of this node: {known}", got=name)
        return queue

    def _resource(self, name: str) -> LabelQueue:
        """Return a queue of this node as its resource, with this node's counts."""
        from heliograph.labelling.numbers import agreement_of, status_of

        queue = self._queues[name]
        labels = [each.labels for each in queue.index.summaries.values() if each.labels]
        found = agreement_of(labels, queue.spec.label_schema)
        queue.index.let_in(self._world.now())
        status = status_of(queue, found, resources.LabelQueueStatus(), self._world.timestamp())
        return resources.LabelQueue(metadata=Metadata(name=name, uid=queue.uid), spec=queue.spec, status=status)


def _data(payload: BaseModel) -> dict[str, Any]:
    return payload.model_dump(mode="python", exclude_none=True)
