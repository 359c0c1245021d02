"""Incremental learning by this node alone: samples are labelled, models trained, evaluated and deployed here, with or
without a link. What goes to the cloud is how it went: counts, digests and metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from heliograph.bus.contract.event import Event
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
from heliograph.bus.contract.topics import CANDIDATE, INFERENCE_STATS, VERDICT, Topic
from heliograph.bus.contract.worker_pods import pod_of, script_in
from heliograph.core.failures import Failures
from heliograph.core.tasks import Flag, wait_for
from heliograph.core.world import World
from heliograph.edge_agent import loop_steps
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.labelling import EdgeLabelling
from heliograph.edge_agent.loop_arrivals import LoopArrivals
from heliograph.edge_agent.loop_files import LoopFiles
from heliograph.edge_agent.loop_samples import LoopSamples
from heliograph.edge_agent.loop_store import ROUNDS_KEPT, LoopStore, StoredLoop
from heliograph.incremental import canary, decisions, loop, loop_shards
from heliograph.incremental.decisions import Begin, Deploy, End, Evaluate, Facts, Look, Promote, RollBack
from heliograph.incremental.drift.shares import newest_drifts
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
        self, journal: Journal, labelling: EdgeLabelling, files: LoopFiles, world: World,
        reports: Callable[[], Sequence[WorkerReport]], changed: Callable[[], None], failures: Failures,
    ) -> None:  # fmt: skip
        self._store = LoopStore(journal)
        self._samples = LoopSamples(self._store, labelling, files, failures)
        self._wake = Flag()
        self._arrivals = LoopArrivals(self._store, files, world, failures, self._wake.set)
        self._world = world
        self._reports = reports
        self._changed = changed
        self._failures = failures
        self._wanted: Mapping[str, EdgeLoop] = {}
        self._set_aside: tuple[str, ...] = ()
        self._is_present = False
        self._followed: set[str] = set()
        """Uids of all jobs of loops in this agent's life: what their workers make stays here, also when one is gone."""
        self._stored: dict[str, StoredLoop] = {}
        self._stats: dict[str, InferenceStats] = {}
        """By the inference worker's name."""
        labelling.listen(self._wake.set)
        for name in self._store.names():  # at once: the files that they need would be deleted
            if (stored := self._store.load(name)) is not None:
                self._take(name, stored)

    # what the agent asks

    def follow(self, desired: Desired, is_present: bool) -> None:
        """Take over the loops of the desired document; one that this version cannot read stays as it is.

        Args:
            is_present: whether the document is the cloud's present one; loops that an older one does not name stay.
        """
        if desired.loops != self._wanted or is_present != self._is_present:
            kept = {name: each for name, each in self._wanted.items() if name in desired.unsupported_loops}
            self._wanted, self._is_present = {**kept, **desired.loops}, is_present
            self._set_aside = desired.unsupported_loops
            self._followed.update(wanted.uid for wanted in self._wanted.values())
            self._wake.set()

    def applied(self, desired: Desired) -> Desired:
        """Return the desired document with the workers that the loops need, and with the versions that they serve."""
        if not self._stored:
            return desired
        tasks: list[WorkerTask] = [self._served(task) for task in desired.tasks]
        for name, wanted in self._wanted.items():
            stored = self._stored.get(name)
            if stored is None or stored.uid != wanted.uid or wanted.stopped:
                continue
            for learned in wanted.spec.models:
                if not stored.state.round and learned.worker_spec.image is None:
                    continue  # a process begins with the first round; a pod's image is to be here before
                base = stored.own.get(learned.model.name, wanted.models.get(learned.model.name))
                asks = loop_steps.ask_of(learned, wanted, stored)
                package = wanted.packages.get(learned.model.name)
                worker = learned.worker_spec
                pod = pod_of(worker, worker.resources, wanted.uid)
                tasks.append(learn_task(name, wanted.uid, wanted.spec, stored.state, learned, base, package, asks, pod,
                                        script_in(worker)))  # fmt: skip
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
            _, waiting = with_troubles(name, wanted.spec, stored.state, lambda learned: self._reports(),
                                       self._world.timestamp())  # fmt: skip
            state = EdgeLearning(
                step=stored.state.step,
                round=stored.state.round,
                waiting=len(self._samples.waiting(wanted)) + loop_shards.waiting_in_shards(stored.state),
                deployed={model: ref.digest for model, ref in stored.own.items()},
                metric=stored.state.metrics.get(wanted.spec.evaluation.metric),
                last=stored.rounds[-1] if stored.rounds else None,
                trouble="; ".join(waiting)[:1024],
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
        wanted = self._wanted.get(payload.job)
        is_wanted = wanted is not None and wanted.uid == payload.job_uid
        return self._arrivals.hold_back(event, entry, payload, is_wanted)

    async def run(self) -> None:
        """Take the loops' steps until cancelled."""
        while True:
            self._wake.clear()
            for name, wanted in [*self._wanted.items()]:
                with self._failures.contain(f"incremental job {name}"):
                    await self._advance(name, wanted)
            for name in self._superfluous():
                await self._forget(name, self._stored.pop(name).uid)
                self._changed()
            await wait_for(self._wake, self._until_next_look())

    def _superfluous(self) -> list[str]:
        """Return the loops whose jobs are gone, as far as the cloud has told."""
        return sorted(self._stored.keys() - {*self._wanted, *self._set_aside}) if self._is_present else []

    def look(self) -> None:
        """Look at the loops again: a worker has changed."""
        self._wake.set()

    # steps

    async def _advance(self, name: str, wanted: EdgeLoop) -> None:
        if self._wanted.get(name) is not wanted:
            return  # another document came meanwhile
        stored = self._stored.get(name)
        if stored is None or stored.uid != wanted.uid:
            stored = await self._opened(name, wanted)
        if wanted.stopped:
            return
        for _ in range(STEPS_AT_ONCE):
            before = self._stored[name]
            after = await self._stepped(name, wanted, before)
            if after is before:
                return
            await self._store.save(name, after)
            self._stored[name] = after
            self._samples.use(before, after)
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
        self._samples.take(stored)
        self._stored[name] = stored

    async def _forget(self, name: str, uid: str) -> None:
        self._samples.forget(uid)
        await self._store.forget(name, uid)

    async def _stepped(self, name: str, wanted: EdgeLoop, stored: StoredLoop) -> StoredLoop:
        """Return the loop after one step; the same object where none is due."""
        now = self._world.timestamp()
        state = await self._arrivals.taken(name, wanted, stored.state, now)
        state = loop.with_present_clock(state, now)
        state, _ = with_troubles(name, wanted.spec, state, lambda learned: self._reports(), now)
        began = loop.at_latest(stored.began, now)
        if state is not stored.state or began != stored.began:
            return stored.model_copy(update={"state": state, "began": began})
        if (asked := loop_steps.asked(wanted, stored)) is not stored:
            return asked
        waiting = self._samples.waiting(wanted)
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

    async def _begun(
        self, name: str, wanted: EdgeLoop, stored: StoredLoop, waiting: Sequence[str], reason: str, now: str
    ) -> StoredLoop:
        state, shards = await self._samples.write_shards(name, wanted, stored.state, waiting)
        learns = any(loop_shards.to_learn(state, learned.model.name) for learned in wanted.spec.models)
        if not shards and reason != decisions.BY_HAND and not learns:
            return stored
        bases = {model: ref.digest for model, ref in {**wanted.models, **stored.own}.items()}
        begun = loop.begin(state, wanted.spec, reason, bases, shards, now)
        return stored.model_copy(update={"state": begun})

    def _served(self, task: WorkerTask) -> WorkerTask:
        """Return an inference task with the version of this node's own, and with its candidate on trial."""
        if not isinstance(task, InferTask):
            return task
        for name, wanted in self._wanted.items():
            stored = self._stored.get(name)
            if stored is None or stored.uid != wanted.uid:
                continue
            for model, services in wanted.services.items():
                if task.job in services:
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
            if (wanted := self._wanted.get(name)) is None or wanted.stopped:
                continue
            due = decisions.next_look(stored.state, wanted.spec, Facts(began=loop.seconds(stored.began)), now)
            looks += [due - now] if due is not None else []
            looks += [COUNTED_EVERY] if decisions.read_counts(stored.state, wanted.spec) else []
        return max(0.05, min(looks))
