"""Waiting requests, a bounded queue for each caller, served round-robin. Pure.

A caller with a thousand waiting requests is served as often as one with a single request. Only a caller's own requests
fill its queue, and only the newest of its own is refused when the queue is full. Callers beyond ``MAX_CALLERS`` share
one queue: who spreads over many names wins no more than so many turns.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from heliograph.coordinator.api.token_bucket import Rate, TokenBucket

T = TypeVar("T")
SOON = 1e-6
"""Seconds too short to wait for: a rounding error could otherwise let a caller sleep again and again."""
OTHERS = ""
"""The caller that stands for all without a queue of their own, and for requests without a reply address."""


@dataclass(frozen=True)
class Limits:
    """The bounds of waiting and running requests.

    Attributes:
        requests, bytes: what one caller may spend; the bytes are those of requests and answers.
        requests_in_all: what all callers together may spend.
        running: requests that are handled at the same time.
        running_of_caller: the same, of one caller.
        waiting: requests of one caller that wait.
        waiting_bytes: their bytes.
        waiting_bytes_in_all: the bytes of all waiting requests.
        callers: callers with a queue and a rate of their own.
        heavy: bytes from which a request is heavy. One heavy document is read at a time, since that takes milliseconds.
    """

    requests: Rate
    bytes: Rate
    requests_in_all: Rate
    running: int = 256
    running_of_caller: int = 32
    waiting: int = 256
    waiting_bytes: int = 8 << 20
    waiting_bytes_in_all: int = 64 << 20
    callers: int = 1024
    heavy: int = 16 << 10


@dataclass(frozen=True, eq=False)
class Turn(Generic[T]):
    """A request whose turn it is. Hand it to ``FairQueue.done`` once it is handled; a heavy one to ``FairQueue.read``
    as soon as its document has been read.

    Attributes:
        cost: as how many requests it counts.
    """

    caller: str
    item: T
    heavy: bool
    cost: float = 1


@dataclass
class _Caller(Generic[T]):
    name: str
    requests: TokenBucket
    bytes: TokenBucket
    waiting: deque[tuple[T, int, float]] = field(default_factory=deque)
    waiting_bytes: int = 0
    running: int = 0
    queued: bool = False
    """Whether it stands in a ring or sleeps, and so need not be put there."""


class FairQueue(Generic[T]):
    """The requests that wait, and the number of those that run.

    Every time is monotonic seconds. A request goes through ``offer``, ``next`` and ``done``.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._in_all = TokenBucket(limits.requests_in_all, now)
        self._callers: dict[str, _Caller[T]] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        """Callers without a waiting or running request, the longest idle first."""
        self._ring: deque[_Caller[T]] = deque()
        """Callers whose first request is light and may run, in the order of their turns."""
        self._heavy_ring: deque[_Caller[T]] = deque()
        self._asleep: list[tuple[float, int, _Caller[T]]] = []
        """Callers that have spent their rate, by the time at which they may go on."""
        self._slept = 0
        self._running = 0
        self._reads: Turn[T] | None = None
        """The heavy request whose document is read now."""
        self._bytes = 0

    def __len__(self) -> int:
        return sum(len(each.waiting) for each in self._callers.values())

    def offer(self, name: str, item: T, size: int, now: float, cost: float = 1) -> bool:
        """Queue a request of ``size`` bytes. Return False where the caller has no room for it.

        Args:
            cost: as how many requests it counts, 1 at most.
        """
        limits = self._limits
        caller = self._caller(name, now)
        full = len(caller.waiting) >= limits.waiting or (
            caller.waiting and caller.waiting_bytes + size > limits.waiting_bytes
        )
        if full or self._bytes + size > limits.waiting_bytes_in_all:
            return False
        caller.waiting.append((item, size, cost))
        caller.waiting_bytes += size
        self._bytes += size
        self._idle.pop(caller.name, None)
        self._enqueue(caller, now)
        return True

    def next(self, now: float) -> Turn[T] | None:
        """Return the next request to handle; None while none may run."""
        self._wake(now)
        if self._running >= self._limits.running or self._in_all.left(now) < 1:
            return None
        ring = self._heavy_ring if self._heavy_ring and self._reads is None else self._ring
        if not ring:
            return None
        caller = ring.popleft()
        caller.queued = False
        item, size, cost = caller.waiting.popleft()
        caller.waiting_bytes -= size
        self._bytes -= size
        caller.running += 1
        self._running += 1
        caller.requests.spend(cost, now)
        caller.bytes.spend(size, now)
        self._in_all.spend(cost, now)
        turn: Turn[T] = Turn(caller.name, item, ring is self._heavy_ring, cost)
        if turn.heavy:
            self._reads = turn
        self._enqueue(caller, now)
        return turn

    def read(self, turn: Turn[T]) -> None:
        """Let the next heavy request be read."""
        if self._reads is turn:
            self._reads = None

    def done(self, turn: Turn[T], answered: int, now: float) -> None:
        """Free the place of a request; ``answered``: bytes of its answer, or as much as it cost: its caller spends them
        too."""
        caller = self._callers[turn.caller]
        caller.running -= 1
        self._running -= 1
        self.read(turn)
        caller.bytes.spend(answered, now)
        self._enqueue(caller, now)
        if not caller.waiting and not caller.running:
            self._idle[caller.name] = None

    def wait(self, now: float) -> float | None:
        """Return the seconds until ``next`` may return a request though none is offered or done; None: it will not."""
        waits = []
        if self._asleep:
            waits.append(max(0.0, self._asleep[0][0] - now))
        if self._ring or (self._heavy_ring and self._reads is None):
            waits.append(self._in_all.ready_in(1, now))
        return min(waits, default=None) if self._running < self._limits.running else None

    def ready_in(self, name: str, now: float) -> float:
        """Return the seconds until a caller's rate lets another request run: when it should try again."""
        caller = self._callers.get(name) or self._callers.get(OTHERS)
        if caller is None:
            return 0.0
        waiting = max(1, len(caller.waiting))
        return max(caller.requests.ready_in(waiting, now), caller.bytes.ready_in(caller.waiting_bytes, now))

    def _enqueue(self, caller: _Caller[T], now: float) -> None:
        """Put a caller where its first waiting request belongs."""
        if caller.queued or not caller.waiting or caller.running >= self._limits.running_of_caller:
            return
        caller.queued = True
        wait = max(caller.requests.ready_in(1, now), caller.bytes.ready_in(1, now))
        if wait > SOON:
            self._slept += 1  # keeps the order of those that wake at one time
            heapq.heappush(self._asleep, (now + wait, self._slept, caller))
        elif caller.waiting[0][1] >= self._limits.heavy:
            self._heavy_ring.append(caller)
        else:
            self._ring.append(caller)

    def _wake(self, now: float) -> None:
        while self._asleep and self._asleep[0][0] <= now:  # it sleeps again only until later than now
            caller = heapq.heappop(self._asleep)[2]
            caller.queued = False
            self._enqueue(caller, now)

    def _caller(self, name: str, now: float) -> _Caller[T]:
        """Return the caller of that name; where all places are taken, the one that others share."""
        known = self._callers.get(name)
        if known is not None:
            return known
        if len(self._callers) >= self._limits.callers and name != OTHERS:
            if not self._idle:
                return self._caller(OTHERS, now)
            del self._callers[self._idle.popitem(last=False)[0]]
        limits = self._limits
        made: _Caller[T] = _Caller(name, TokenBucket(limits.requests, now), TokenBucket(limits.bytes, now))
        self._callers[name] = made
        self._idle[name] = None
        return made
