"""Incremental learning by this node alone: samples are labelled, models trained, evaluated and deployed here, with or
without a link. What goes to the cloud is how it went: counts, digests and metrics.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heliograph.bus.contract.event import Event, decode, encode
from heliograph.bus.contract.payloads import (
    Candidate,
    Desired,
    EdgeLoop,
    InferenceStats,
    InferTask,
    LoopReport,
    VerdictReport,
    VersionStats,
    WorkerReport,
    WorkerTask,
)
from heliograph.bus.contract.resources import EdgeLearning, LoopState
from heliograph.bus.contract.resources.base import WeightsRef
from heliograph.bus.contract.topics import CANDIDATE, INFERENCE_STATS, VERDICT, Topic
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import Failures
from heliograph.core.tasks import Flag, wait_for
from heliograph.core.world import World
from heliograph.edge_agent import loop_steps
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.labelling import EdgeLabelling
from heliograph.edge_agent.loop_files import LoopFiles
from heliograph.edge_agent.loop_store import INBOX, ROUNDS_KEPT, LoopStore, StoredLoop
from heliograph.incremental import canary, decisions, loop
from heliograph.incremental.decisions import Begin, Deploy, End, Evaluate, Facts, Look, Promote, RollBack
from heliograph.incremental.drift.shares import newest_drifts
from heliograph.incremental.shards import MAX_SAMPLES
from heliograph.incremental.tasks import learn_task
from heliograph.incremental.troubles import with_troubles

STEPS_AT_ONCE = 8
CALM, COUNTED_EVERY = 60.0, 1.0
"""Seconds after which loops are looked at though nothing is due, and while a candidate is on trial."""


class EdgeLoops:
    """This node's loops.

    Args:
        files: shards, memory and weights as files of this node.
        reports: returns what this agent reports of its workers.
        changed: called when tasks or reports of this node have changed.
    """

    def __init__(
        self, edge: str, journal: Journal, labelling: EdgeLabelling, files: LoopFiles, world: World,
        reports: Callable[[], Sequence[WorkerReport]], changed: Callable[[], None], failures: Failures,
    ) -> None:  # fmt: skip
        self._edge = edge
        self._journal = journal
        self._store = LoopStore(journal)
        self._labelling = labelling
        self._files = files
        self._world = world
        self._reports = reports
        self._changed = changed
        self._failures = failures
        self._wanted: Mapping[str, EdgeLoop] = {}
        self._followed: set[str] = set()
        """Uids of all jobs of loops in this agent's life: what their workers make stays here, also when one is gone."""
        self._stored: dict[str, StoredLoop] = {}
        self._used: dict[str, set[str]] = {}
        """By uid: the samples that are in the loop's shards."""
        self._unusable: dict[str, set[str]] = {}
        """By uid: the labelled samples that are gone, or whose label no model learns; they wait no more."""
        self._stats: dict[str, InferenceStats] = {}
        """By the inference worker's name."""
        self._arrivals = itertools.count()
        self._wake = Flag()
        labelling.listen(self._wake.set)

    # what the agent asks

    def follow(self, desired: Desired) -> None:
        """Take over the loops of the desired document; one that this version cannot read stays as it is."""
        if desired.loops != self._wanted:
            kept = {name: each for name, each in self._wanted.items() if name in desired.unsupported_loops}
            self._wanted = {**kept, **desired.loops}
            self._followed.update(wanted.uid for wanted in self._wanted.values())
            for name, wanted in self._wanted.items():
                stored = self._stored.get(name) or self._store.load(name)
                if stored is not None and stored.uid == wanted.uid and name not in self._stored:
                    self._take(name, stored)  # at once: the files that it needs would be deleted
            self._wake.set()

    def applied(self, desired: Desired) -> Desired:
        """Return the desired document with the workers that the loops need, and with the versions that they serve."""
        if not self._stored:
            return desired
        tasks: list[WorkerTask] = [self._served(task) for task in desired.tasks]
        for name, wanted in self._wanted.items():
            stored = self._stored.get(name)
            if stored is None or stored.uid != wanted.uid or not stored.state.round:
                continue
            for learned in wanted.spec.models:
                base = stored.own.get(learned.model.name, wanted.models.get(learned.model.name))
                asks = loop_steps.ask_of(learned, wanted, stored)
                package = wanted.packages.get(learned.model.name)
                tasks.append(learn_task(name, wanted.uid, wanted.spec, stored.state, learned, base, package, asks))
        return desired.model_copy(update={"tasks": tasks})

    def from_elsewhere(self, task: WorkerTask) -> WorkerTask:
        """Return a serving task without the versions that this node has trained itself: nobody signs these."""
        if not self._stored or not isinstance(task, InferTask):
            return task
        own = {ref.digest for stored in self._stored.values() for ref in stored.own.values()}
        own |= {each.weights.digest for stored in self._stored.values() for each in stored.state.candidates.values()
                if each.weights is not None}  # fmt: skip
        changes: dict[str, Any] = {}
        if task.model is not None and task.model.digest in own:
            changes["model"] = None
        if task.candidate is not None and task.candidate.model.digest in own:
            changes["candidate"] = None
        return task.model_copy(update=changes) if changes else task

    @property
    def needed(self) -> set[str]:
        """Digests of the files of this node that the loops need."""
        found: set[str] = set()
        for stored in self._stored.values():
            found |= loop.files_of(stored.state)
            found |= {ref.digest for ref in (*stored.own.values(), *stored.before.values())}
        return found

    def reports(self) -> dict[str, LoopReport]:
        """Return how the loops go, for the cloud."""
        found = {}
        for name, wanted in self._wanted.items():
            stored = self._stored.get(name)
            if stored is None or stored.uid != wanted.uid:
                continue
            state = EdgeLearning(
                step=stored.state.step,
                round=stored.state.round,
                waiting=len(self._waiting(wanted)) + loop.waiting_in_shards(stored.state),
                deployed={model: ref.digest for model, ref in stored.own.items()},
                metric=stored.state.metrics.get(wanted.spec.evaluation.metric),
                last=stored.rounds[-1] if stored.rounds else None,
            )
            found[name] = LoopReport(uid=wanted.uid, generation=wanted.generation, state=state)
        return found

    def hold_back(self, topic: Topic[Any], event: Event, entry: NewEvent) -> NewEvent:
        """Return what is journalled for an event: itself, or, for a candidate or a verdict of a loop here, what is left
        of it without weights. The whole is journalled beside it, for the loop."""
        if topic is INFERENCE_STATS and self._wanted:
            stats = INFERENCE_STATS.validate(event.data, entry.topic)
            self._stats[stats.worker] = stats
            return entry
        if topic not in (CANDIDATE, VERDICT):
            return entry
        payload: Candidate | VerdictReport = topic.validate(event.data, entry.topic)
        if payload.job_uid not in self._followed:
            return entry
        wanted, documents = self._wanted.get(payload.job), dict(entry.documents)
        key = f"{INBOX}{payload.job}/{self._world.now():020.6f}-{next(self._arrivals):06d}-{event.id}"
        body = encode(Event(id=event.id, source=event.source, type=event.type, data=event.data, time=event.time,
                            subject=event.subject))  # fmt: skip
        if wanted is not None and wanted.uid == payload.job_uid:
            documents[key] = body
        if isinstance(payload, Candidate):
            bare = WeightsRef(digest=payload.weights.digest, size=payload.weights.size)
            payload = payload.model_copy(update={"weights": bare, "memory": None})
        told = Event(id=event.id, source=event.source, type=event.type,
                     data=payload.model_dump(mode="python", exclude_none=True), time=event.time, subject=event.subject,
                     sequence=event.sequence, traceparent=event.traceparent)  # fmt: skip
        self._wake.set()
        return NewEvent(entry.topic, encode(told), entry.lane, entry.producer, entry.incarnation, entry.sequence,
                        documents)  # fmt: skip

    async def run(self) -> None:
        """Take the loops' steps until cancelled."""
        while True:
            self._wake.clear()
            for name in [*self._wanted]:
                with self._failures.contain(f"incremental job {name}"):
                    await self._advance(name)
            for name in self._stored.keys() - self._wanted.keys():
                await self._forget(name, self._stored.pop(name).uid)
                self._changed()
            await wait_for(self._wake, self._until_next_look())

    def look(self) -> None:
        """Look at the loops again: a worker has changed."""
        self._wake.set()

    # steps

    async def _advance(self, name: str) -> None:
        wanted = self._wanted[name]
        stored = self._stored.get(name)
        if stored is None or stored.uid != wanted.uid:
            stored = await self._opened(name, wanted)
        for _ in range(STEPS_AT_ONCE):
            after = await self._stepped(name, wanted, self._stored[name])
            if after is self._stored[name]:
                return
            await self._store.save(name, after)
            self._stored[name] = after
            self._changed()

    async def _opened(self, name: str, wanted: EdgeLoop) -> StoredLoop:
        if (before := self._store.load(name)) is not None:
            await self._forget(name, before.uid)
        stored = StoredLoop(uid=wanted.uid, began=self._world.timestamp(), asked=dict(wanted.asked))
        await self._store.save(name, stored)
        self._take(name, stored)
        self._changed()
        return stored

    def _take(self, name: str, stored: StoredLoop) -> None:
        self._used[stored.uid] = self._store.used(stored.uid, stored.state.next_shard)
        self._unusable[stored.uid] = self._store.unusable(stored.uid)
        self._stored[name] = stored

    async def _forget(self, name: str, uid: str) -> None:
        self._used.pop(uid, None)
        self._unusable.pop(uid, None)
        await self._store.forget(name, uid)

    async def _stepped(self, name: str, wanted: EdgeLoop, stored: StoredLoop) -> StoredLoop:
        """Return the loop after one step; the same object where none is due."""
        now = self._world.timestamp()
        state = await self._with_arrivals(name, stored.state, now)
        state = loop.with_present_clock(state, now)
        state, _ = with_troubles(name, wanted.spec, state, lambda learned: self._reports(), now)
        began = loop.at_latest(stored.began, now)
        if state is not stored.state or began != stored.began:
            return stored.model_copy(update={"state": state, "began": began})
        if (asked := loop_steps.asked(wanted, stored)) is not stored:
            return asked
        waiting = self._waiting(wanted)
        metric = state.metrics.get(wanted.spec.evaluation.metric)
        if decisions.why_ended(state, wanted.spec, metric, stored.began, now) is not None:
            return stored
        facts = Facts(new_samples=len(waiting), began=loop.seconds(stored.began), canaries=self._canaries(state),
                      drifts={"": self._drifts(wanted, stored)})  # fmt: skip
        match decisions.decide(state, wanted.spec, facts, self._world.now()):
            case Begin(reason):
                return await self._begun(name, wanted, stored, waiting, reason, now)
            case Evaluate():
                return stored.model_copy(update={"state": loop.evaluate(state, now)})
            case Deploy():
                return loop_steps.deployed(wanted, stored, now)
            case Promote(model):
                return loop_steps.promoted(stored, model, loop.promote(state, model, now))
            case RollBack(model, why):
                return loop_steps.rolled_back(stored, model, loop.roll_back(state, model, why, now))
            case End():
                after, record = loop.end(state, now)
                return stored.model_copy(update={"state": after, "rounds": [*stored.rounds, record][-ROUNDS_KEPT:]})
            case Look(step):
                return stored.model_copy(update={"state": loop.looked(state, step, now)})
        return stored

    async def _with_arrivals(self, name: str, state: LoopState, now: str) -> LoopState:
        """Take the candidates and verdicts that have come; each is forgotten once what it led to is stored."""
        for key, body in [*self._store.inbox(name)]:
            after = state
            try:
                after = await self._with_arrival(name, state, decode(body, key), now)
            except Refused as error:  # damaged on the disk: it would be in the way of all that come after it
                self._failures.add(f"incremental job {name}", error)
            if after is not state:
                return after
            await self._store.taken(key)
        return state

    async def _with_arrival(self, name: str, state: LoopState, event: Event, now: str) -> LoopState:
        """Take a candidate or a verdict; where a file of the candidate is missing or damaged, begin the training once
        more."""
        if event.type == VERDICT.type:
            return loop.judged(state, VERDICT.validate(event.data, event.subject), now)
        came = CANDIDATE.validate(event.data, event.subject)
        if not loop.awaits(state, came):
            return state
        try:
            worker = event.source.split("/")[1]
            weights = await self._files.adopted(worker, came.weights)
            memory = await self._files.adopted(worker, came.memory) if came.memory is not None else None
        except HeliographError as error:
            self._failures.add(f"incremental job {name}", error)
            why = f"its candidate was refused: {error}"
            return loop.spoiled(state, self._wanted[name].spec, came, why, now)
        return loop.trained(state, came.model_copy(update={"weights": weights, "memory": memory}), now)

    async def _begun(
        self, name: str, wanted: EdgeLoop, stored: StoredLoop, waiting: Sequence[str], reason: str, now: str
    ) -> StoredLoop:
        state = stored.state
        schema = self._labelling.schema_of(wanted.queue)
        classes = loop.with_classes(state.classes, schema.classes if schema is not None else ())
        version = schema.version if schema is not None else state.schema_version
        taken = waiting[:MAX_SAMPLES]
        samples = await self._labelling.labelled(wanted.queue, taken, classes)
        if gone := set(taken) - {each.digest for each in samples}:
            await self._leave_out(name, wanted, gone)
        if not samples and reason != decisions.BY_HAND and not any(
            loop.to_learn(state, learned.model.name) for learned in wanted.spec.models
        ):  # fmt: skip
            return stored
        shards = await self._files.write_shards(samples, wanted.spec.evaluation, state.next_shard, version)
        for shard, ids in shards:
            await self._store.note(wanted.uid, shard.number, ids)
        bases = {model: ref.digest for model, ref in {**wanted.models, **stored.own}.items()}
        with_schema = state.model_copy(update={"classes": classes, "schema_version": version})
        begun = loop.begin(with_schema, wanted.spec, reason, bases, [shard for shard, _ in shards], now)
        self._used[wanted.uid].update(id for _, ids in shards for id in ids)
        return stored.model_copy(update={"state": begun})

    async def _leave_out(self, name: str, wanted: EdgeLoop, gone: set[str]) -> None:
        """Take note of tasks whose sample is gone, or whose label no model learns, as long as the queue has them."""
        known = self._unusable[wanted.uid] | gone
        left = [task for task in self._labelling.settled(wanted.queue) if task in known]
        await self._store.leave_out(wanted.uid, left)
        self._unusable[wanted.uid] = set(left)
        self._failures.add(f"incremental job {name}", HeliographError(
            f"{len(gone)} labelled samples of queue {wanted.queue} are gone, or have labels that no model learns"
        ))  # fmt: skip

    def _waiting(self, wanted: EdgeLoop) -> list[str]:
        used, unusable = self._used.get(wanted.uid, ()), self._unusable.get(wanted.uid, ())
        return [task for task in self._labelling.settled(wanted.queue) if task not in used and task not in unusable]

    def _served(self, task: WorkerTask) -> WorkerTask:
        """Return an inference task with the version of this node's own, and with its candidate on trial."""
        if not isinstance(task, InferTask):
            return task
        for name, wanted in self._wanted.items():
            stored = self._stored.get(name)
            if stored is None or stored.uid != wanted.uid or task.model is None:
                continue
            for model, ref in wanted.models.items():
                if ref.digest == task.model.digest:
                    own = stored.own.get(model)
                    changes: dict[str, Any] = {"candidate": loop_steps.on_trial(wanted, stored.state, model)}
                    if own is not None:
                        changes |= {"model": own, "signature": None}
                    return task.model_copy(update=changes)
        return task

    def _canaries(self, state: LoopState) -> dict[str, canary.CanaryFacts]:
        if state.step not in ("canary", "watching"):
            return {}
        counted: dict[str, VersionStats] = {}
        for stats in self._stats.values():
            counted |= stats.versions
        return {model: canary.facts_of(each, counted) for model, each in state.candidates.items()}

    def _drifts(self, wanted: EdgeLoop, stored: StoredLoop) -> dict[str, float]:
        """Return what detectors of drift have seen of the models of a loop here."""
        digests = {ref.digest for ref in (*wanted.models.values(), *stored.own.values())}
        return newest_drifts(stats for stats in self._stats.values() if stats.model in digests)

    def _until_next_look(self) -> float:
        now, looks = self._world.now(), [CALM]
        for name, stored in self._stored.items():
            if (wanted := self._wanted.get(name)) is None:
                continue
            due = decisions.next_look(stored.state, wanted.spec, Facts(began=loop.seconds(stored.began)), now)
            looks += [due - now] if due is not None else []
            looks += [COUNTED_EVERY] if decisions.read_counts(stored.state, wanted.spec) else []
        return max(0.05, min(looks))
