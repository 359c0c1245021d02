"""An event loop in virtual time: when nothing is left to do it goes to the next timer, without waiting.

What runs belongs to a simulated process, by the context of its task. A process can be killed between any two of its
steps, and then none of its code runs any more, not even a ``finally``: as after SIGKILL.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import sys
import warnings
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")
SETTLE_STEPS = 10_000
CLEAN_AFTER = 200
"""Cancelled timers among the waiting ones from which on they are cleared away."""


class Process:
    """A simulated process: a name, and whether it lives.

    Attributes:
        ahead: seconds by which its clock is wrong.
        steps: how many steps of its tasks have been scheduled.
        dies_at: the step at which it is killed; 0: none.
        on_death: called once when it is killed.
        tasks: those that it has created and that are not over.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.ahead = 0.0
        self.steps = 0
        self.dies_at = 0
        self.on_death: list[Callable[[], None]] = []
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.context = Context()
        self.context.run(PROCESS.set, self)


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Stuck(RuntimeError):
    """Nothing is left that could ever happen, and what was waited for has not; or it never ends."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order of their virtual time, and of their scheduling within it.

    Attributes:
        disk_seconds: what a function takes that is run in an executor; it runs at the end of that time.
        most_turns: after so many the run is broken off: something goes round in circles; 0: never.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._busy: dict[int, float] = {}
        self.disk_seconds = 0.0
        self.most_turns = 0
        self._turns = 0
        self._timer_cancelled_count = 0
        self._dead: list[asyncio.Task[Any]] = []
        """Tasks of killed processes: collected as garbage they would run their ``finally`` after all."""
        numbers = itertools.count()
        self.set_task_factory(lambda loop, coro, context=None: _Task(next(numbers), coro, loop, context))

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if self._lives(handle):
            self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if self._lives(handle):
            heapq.heappush(self._scheduled, handle)  # type: ignore[attr-defined]
            handle._scheduled = True  # type: ignore[attr-defined]
        return handle

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """One after the other for each executor, like its only thread; a process killed before has not run it."""
        done: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:
                done.set_exception(error)

        if not self.disk_seconds:
            self.call_soon(work)
            return done
        begin = max(self._now, self._busy.get(id(executor), 0.0) if executor is not None else 0.0)
        if executor is not None:
            self._busy[id(executor)] = begin + self.disk_seconds
        self.call_at(begin + self.disk_seconds, work)
        return done

    async def settled(self) -> None:
        """Returns when nothing is left to be done at the present time but by waiting."""
        for _ in range(SETTLE_STEPS):
            if not self._ready:  # type: ignore[attr-defined]
                return
            await asyncio.sleep(0)  # noqa: TID251 - it is this loop's own

    def kill(self, process: Process) -> None:
        """None of its steps is taken any more."""
        if process.dead:
            return
        process.dead = True
        self._keep(process)
        for called in list(process.on_death):  # what ends takes itself off it
            called()

    def _keep(self, process: Process) -> None:
        self._dead += [task for task in process.tasks if not task.done()]

    def _lives(self, handle: asyncio.Handle) -> bool:
        """Whether the process to which a handle belongs does; counts its step."""
        process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
        if process is None:
            return True
        if process.dead:
            handle._cancelled = True
            return False
        process.steps += 1
        if process.steps == process.dies_at:
            handle._cancelled = True
            self._keep(process)  # now: the handle may be all that holds its task
            nobody = Context()
            self._ready.appendleft(asyncio.Handle(self.kill, (process,), self, nobody))  # type: ignore[attr-defined]
            return False
        return True

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        self._turns += 1
        if self._turns == self.most_turns:
            raise Stuck(f"still going on after {self._turns} turns, {self._now:g} s of its own clock")
        if self._timer_cancelled_count > CLEAN_AFTER and self._timer_cancelled_count * 2 > len(scheduled):
            left = [handle for handle in scheduled if not handle._cancelled]
            for handle in scheduled:
                if handle._cancelled:
                    handle._scheduled = False
            heapq.heapify(left)
            scheduled[:] = left
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                if self._stopping:  # type: ignore[attr-defined]
                    return
                raise Stuck("nothing is left that could happen, and what is waited for has not")
            self._now = max(self._now, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            process = handle._context.get(PROCESS)
            if not handle._cancelled and (process is None or not process.dead):
                handle._run()

    def _process_events(self, event_list: Any) -> None:
        return None

    def _write_to_self(self) -> None:
        return None


class _Task(asyncio.Task[Any]):
    """Numbered, and hashed by its number: a set of tasks is iterated in the same order in every run."""

    def __init__(self, number: int, coro: Any, loop: Any, context: Context | None) -> None:
        self._number = number
        super().__init__(coro, loop=loop, context=context)
        self._log_destroy_pending = False  # a killed process leaves tasks behind
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            process.tasks.add(self)

    def __hash__(self) -> int:
        return self._number


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Runs ``main`` to its end in a new loop, and returns what it returns.

    Nothing of what it left behind runs any more. Raises Stuck where it waits for what can not come.
    """
    loop = VirtualLoop()
    thresholds, hook = gc.get_threshold(), sys.unraisablehook
    gc.set_threshold(200_000, 50, 1000)  # a hundred thousand waiting tasks are no garbage
    try:
        return loop.run_until_complete(main(loop))
    finally:
        sys.unraisablehook = lambda unraisable: None  # coroutines that are dropped where they wait
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # and those that never began
                for handle in (*loop._ready, *loop._scheduled):  # type: ignore[attr-defined]
                    handle.cancel()
                for task in asyncio.all_tasks(loop):
                    _drop(task)
                loop._dead.clear()
            loop.close()
        finally:
            sys.unraisablehook = hook
            gc.set_threshold(*thresholds)


def _drop(task: asyncio.Task[Any]) -> None:
    coroutine = task.get_coro()
    try:
        if coroutine is not None:
            coroutine.close()
    except (RuntimeError, ValueError):  # it waits in its finally, too
        return
