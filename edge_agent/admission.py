"""Decide which workers a node has room for: a pure function of what they ask and what runs.

A worker that asks for memory or GPUs starts once so much is left. A higher priority comes first, and takes the place of
lower ones; of the same priority the job that was created first comes first. Workers that ask for nothing always start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from heliograph.bus.contract import payloads
from heliograph.bus.contract.resources.node_resources import shown_bytes

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import WorkerAsk, WorkerTask

NAMED = 4
"""Workers that a reason names, at most."""


@dataclass(frozen=True)
class Capacity:
    """What a node has for its workers.

    Attributes:
        memory: bytes; 0 where nobody knows, which bounds nothing.
        gpus: the ids by which a process finds each GPU, as in ``CUDA_VISIBLE_DEVICES``; None where nobody knows.
    """

    memory: int = 0
    gpus: tuple[str, ...] | None = None


UNKNOWN = Capacity()


class Holder(Protocol):
    """A worker that runs, as admission sees it; see ``reconcile.Running``."""

    @property
    def worker(self) -> str: ...
    @property
    def job_uid(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def task(self) -> WorkerTask | None: ...
    @property
    def gpus(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Waiting:
    """Why a worker does not start.

    Attributes:
        never: True where the node never has as much as it asks.
        ending: workers that are being stopped, whose place a higher priority takes.
    """

    reason: str
    never: bool = False
    ending: tuple[str, ...] = ()


@dataclass
class Admission:
    """The decision.

    Attributes:
        gpus: the GPUs of each worker that may start and asks for some.
        waiting: the workers that may not start, with the reason.
        evicted: workers that give up their place, in order.
    """

    gpus: dict[str, tuple[str, ...]] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    evicted: list[str] = field(default_factory=list)


@dataclass
class _Held:
    """What a running worker holds.

    Attributes:
        idle: whether it has nothing to do for now: it keeps its process warm between rounds.
    """

    worker: str
    job: str
    ask: WorkerAsk
    gpus: tuple[str, ...]
    ending: bool
    idle: bool


def admit(
    starting: Iterable[WorkerTask],
    later: Iterable[WorkerTask],
    running: Mapping[str, Holder],
    wanted: Mapping[str, WorkerTask],
    capacity: Capacity,
) -> Admission:
    """Return which of the workers that are to start may, and which running ones give up their place.

    Nobody overtakes a worker that waits: what it asks is kept for it from all that come after it.

    Args:
        starting: tasks whose workers do not run.
        later: tasks that have nothing to do yet, likewise. They wait where they could not start now: a round asks
            others then.
        wanted: the desired task of each worker.
    """
    found = Admission()
    now, then = sorted(filter(_asks, starting), key=_order), sorted(filter(_asks, later), key=_order)
    if not (now or then):
        return found
    node = _Node(capacity, [*_held(running, wanted)])
    for place, task in enumerate((*now, *then)):
        ask = task.asks or payloads.WorkerAsk()
        if (lack := _beyond(ask, capacity)) is not None:
            found.waiting[task.worker] = Waiting(f"{lack}: it can never start here", never=True)
            continue
        short = node.lacks(ask)
        if place >= len(now):
            if short and not node.could_evict(ask, short):
                found.waiting[task.worker] = Waiting(node.reason(ask, short))
        elif not short:
            found.gpus[task.worker] = node.take(task, ask)
        else:
            if task.is_due:  # else it only keeps its process warm
                found.evicted += [each.worker for each in node.evict(ask, short)]
            found.waiting[task.worker] = node.queue(task.job, ask, short)
    return found


class _Node:
    """What is left of a node while its waiting workers are gone through, the first in order first."""

    def __init__(self, capacity: Capacity, held: list[_Held]) -> None:
        self._capacity = capacity
        self._held = held
        self._memory = capacity.memory - sum(each.ask.memory for each in held)
        taken = {gpu for each in held for gpu in each.gpus}
        self._gpus = [gpu for gpu in capacity.gpus or () if gpu not in taken]
        self._waiting: list[tuple[str, WorkerAsk]] = []
        """The jobs of workers that wait, for whom the rest is kept."""

    def lacks(self, ask: WorkerAsk) -> set[str]:
        """Return what there is not enough of for the ask."""
        short = set()
        if ask.memory and self._capacity.memory and ask.memory > self._memory:
            short.add("memory")
        if ask.gpus and self._capacity.gpus is not None and ask.gpus > len(self._gpus):
            short.add("gpus")
        return short

    def take(self, task: WorkerTask, ask: WorkerAsk) -> tuple[str, ...]:
        """Give a worker what it asks. Return its GPUs."""
        gpus, self._gpus = tuple(self._gpus[: ask.gpus]), self._gpus[ask.gpus :]
        self._memory -= ask.memory
        self._held.append(_Held(task.worker, task.job, ask, gpus, ending=False, idle=False))
        return gpus

    def could_evict(self, ask: WorkerAsk, short: set[str]) -> bool:
        """Return whether enough workers would give up their place."""
        return self._choose(ask, short) is not None

    def evict(self, ask: WorkerAsk, short: set[str]) -> list[_Held]:
        """Return the workers that give up their place: none where those that end already make room, or where even all
        that may would not."""
        chosen = self._choose(ask, short) or []
        for each in chosen:
            each.ending = True
        return chosen

    def _choose(self, ask: WorkerAsk, short: set[str]) -> list[_Held] | None:
        """Return the workers whose place makes room beside those that end already; None where it is not enough."""
        memory = ask.memory - self._memory - sum(each.ask.memory for each in self._held if each.ending)
        gpus = ask.gpus - len(self._gpus) - sum(len(each.gpus) for each in self._held if each.ending)
        chosen = []
        for each in sorted(self._held, key=_last_first):
            if (memory <= 0 or "memory" not in short) and (gpus <= 0 or "gpus" not in short):
                break
            gives = (memory > 0 and each.ask.memory and "memory" in short) or (gpus > 0 and each.gpus)
            if gives and _gives_way(each, ask):
                chosen.append(each)
                memory -= each.ask.memory
                gpus -= len(each.gpus)
        enough = not ("memory" in short and memory > 0) and not ("gpus" in short and gpus > 0)
        return chosen if enough else None

    def reason(self, ask: WorkerAsk, short: set[str]) -> str:
        """Return why a worker waits."""
        holders = [each for each in self._held if _holds(each, short)]
        reason = f"waits for {_words(ask, short)}: {self._use(short)} taken"
        if holders:
            reason += f", by {_named(holders)}"
        if ahead := [each for each, asked in self._waiting if _wants(asked, short)]:
            reason += f"; {', '.join(dict.fromkeys(ahead[:NAMED]))} comes first"
        return reason

    def queue(self, job: str, ask: WorkerAsk, short: set[str]) -> Waiting:
        """Return why a worker waits, and keep what it asks from those that come after it."""
        reason = self.reason(ask, short)
        ending = tuple(each.worker for each in self._held
                       if _holds(each, short) and each.ending and each.ask.priority < ask.priority)  # fmt: skip
        self._waiting.append((job, ask))
        # what it lacks is kept whole; of what there is enough of, its own part
        self._memory = self._memory - ask.memory if self._capacity.memory else 0
        self._gpus = self._gpus[ask.gpus :]
        return Waiting(reason, ending=ending)

    def _use(self, short: set[str]) -> str:
        parts = []
        if "memory" in short:
            used = sum(each.ask.memory for each in self._held)
            parts.append(f"{shown_bytes(used)} of {shown_bytes(self._capacity.memory)}")
        if "gpus" in short:
            used = sum(len(each.gpus) for each in self._held)
            parts.append(f"{used} of {len(self._capacity.gpus or ())}")
        return " and ".join(parts)


def _held(running: Mapping[str, Holder], wanted: Mapping[str, WorkerTask]) -> Iterable[_Held]:
    """Yield what the running workers hold; one whose process has ended for good holds nothing."""
    for name, present in sorted(running.items()):
        if present.state in ("failed", "finished"):
            continue
        task = wanted.get(name)
        if task is not None and task.job_uid != present.job_uid:
            task = None
        known = task or present.task
        if known is None or not (known.asks or present.gpus):
            continue
        ending = task is None or present.state == "stopping"
        yield _Held(name, known.job, known.asks or payloads.WorkerAsk(), present.gpus, ending, not known.is_due)


def _asks(task: WorkerTask) -> bool:
    return task.asks is not None and bool(task.asks.memory or task.asks.gpus)


def _beyond(ask: WorkerAsk, capacity: Capacity) -> str | None:
    """Return what the worker asks beyond all that the node has."""
    if capacity.memory and ask.memory > capacity.memory:
        return f"it asks for {shown_bytes(ask.memory)} of memory, and this node has {shown_bytes(capacity.memory)}"
    if capacity.gpus is not None and ask.gpus > len(capacity.gpus):
        return f"it asks for {_gpus(ask.gpus)}, and this node has {len(capacity.gpus) or 'none'}"
    return None


def _order(task: WorkerTask) -> tuple[int, str, str]:
    ask = task.asks or payloads.WorkerAsk()
    return -ask.priority, ask.since, task.worker


def _last_first(held: _Held) -> tuple[int, bool, str, str]:
    """Order workers by who gives way first: the lowest priority, an idle one, the one whose job came last."""
    return held.ask.priority, not held.idle, _descending(held.ask.since), held.worker


def _descending(text: str) -> str:
    return "".join(chr(0x10FFFF - ord(each)) for each in text)


def _gives_way(held: _Held, ask: WorkerAsk) -> bool:
    """Return whether a running worker makes room for one that waits: to a higher priority always, to the same only
    while it is idle."""
    if held.ending:
        return False
    return held.ask.priority < ask.priority or (held.idle and held.ask.priority == ask.priority)


def _holds(held: _Held, short: set[str]) -> bool:
    return ("memory" in short and held.ask.memory > 0) or ("gpus" in short and bool(held.gpus))


def _wants(ask: WorkerAsk, short: set[str]) -> bool:
    return ("memory" in short and ask.memory > 0) or ("gpus" in short and ask.gpus > 0)


def _words(ask: WorkerAsk, short: set[str]) -> str:
    parts = [f"{shown_bytes(ask.memory)} of memory"] if "memory" in short else []
    if "gpus" in short:
        parts.append(_gpus(ask.gpus))
    return " and ".join(parts)


def _gpus(number: int) -> str:
    return f"{number} GPU{'' if number == 1 else 's'}"


def _named(holders: Collection[_Held]) -> str:
    first = [f"{each.job} (priority {each.ask.priority}{', ends' if each.ending else ''})"
             for each in sorted(holders, key=lambda each: (-each.ask.priority, each.ask.since))]  # fmt: skip
    unique = list(dict.fromkeys(first))
    more = f" and {len(unique) - NAMED} more" if len(unique) > NAMED else ""
    return ", ".join(unique[:NAMED]) + more
