"""An event loop in virtual time: when nothing is ready to run, it moves its clock to the next timer without waiting.

Each callback belongs to a simulated process, by the context of its task. A process can be killed between any two of its
steps. Then none of its code runs any more, not even a ``finally``, as after SIGKILL.
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
"""Number of cancelled timers in the queue above which they are removed."""


class Process:
    """A simulated process.

    Attributes:
        ahead: seconds by which its clock is ahead.
        steps: number of scheduled steps of its tasks.
        dies_at: step at which the process is killed; 0 for none.
        on_death: functions called when the process is killed.
        tasks: unfinished tasks created by the process.
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
NO_PROCESS = Context()
"""Context of callbacks that belong to no process."""


class Stuck(RuntimeError):
    """The run waits for an event that cannot happen any more, or it does not end."""


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop that runs callbacks in the order of their virtual time, and of their scheduling within the same time.

    Attributes:
        disk_seconds: duration of a function in an executor; it runs at the end of that time.
        cancelled_timers: number of cancelled timers in the queue.
        most_turns: number of turns after which the run fails with Stuck, because it goes round in circles; 0 for no
            limit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._busy: dict[int, float] = {}
        self.disk_seconds = 0.0
        self.most_turns = 0
        self._turns = 0
        self.cancelled_timers = 0
        self._dead: list[asyncio.Task[Any]] = []
        """Tasks of killed processes, kept because garbage collection would run their ``finally``."""
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, _Handle]] = []

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> _Handle:  # type: ignore[override]
        handle = _Handle(self, callback, args, context)
        if self._may_run(handle):
            self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        handle = _Handle(self, callback, args, context, when)
        if self._may_run(handle):
            heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        return _Task(next(self._numbers), coro, self, context)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run a function after those of the same executor, like their only thread, unless the process is killed."""
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

    async def wait_until_idle(self) -> None:
        """Wait until nothing is ready to run at the present time."""
        for _ in range(SETTLE_STEPS):
            if not self._ready:  # type: ignore[attr-defined]
                return
            await asyncio.sleep(0)  # noqa: TID251 - this loop's own sleep

    def kill(self, process: Process) -> None:
        """Kill a process: none of its steps runs any more."""
        if process.dead:
            return
        process.dead = True
        self._keep_tasks(process)
        for callback in list(process.on_death):  # a callback may remove itself from the list
            callback()

    def _keep_tasks(self, process: Process) -> None:
        self._dead += [task for task in process.tasks if not task.done()]

    def keep_of_dying(self, process: Process, task: asyncio.Task[Any]) -> None:
        """Keep a task whose first step is the one at which its process is killed: nothing else may refer to it."""
        if process.dead or 0 < process.dies_at <= process.steps:
            self._dead.append(task)

    def _may_run(self, handle: _Handle) -> bool:
        """Count a step of the handle's process, and return whether the process is alive."""
        process = handle.process
        if process is None:
            return True
        if process.dead:
            handle.gone = True
            return False
        process.steps += 1
        if process.steps == process.dies_at:
            handle.gone = True
            self._keep_tasks(process)  # now, because the handle may have the only reference to its task
            self._ready.appendleft(_Handle(self, self.kill, (process,), NO_PROCESS))  # type: ignore[attr-defined]
            return False
        return True

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers  # type: ignore[attr-defined]
        self._turns += 1
        if self._turns == self.most_turns:
            raise Stuck(f"the run has not ended after {self._turns} turns, at {self._now:g} s of its own clock")
        if self.cancelled_timers > CLEAN_AFTER and self.cancelled_timers * 2 > len(timers):
            timers[:] = [each for each in timers if not each[2].gone]
            heapq.heapify(timers)
            self.cancelled_timers = 0
        while timers and timers[0][2].gone:
            self.cancelled_timers -= 1
            heapq.heappop(timers)
        if not ready:
            if not timers:
                if self._stopping:  # type: ignore[attr-defined]
                    return
                raise Stuck("the run waits for an event, and nothing is left that could cause it")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            handle = heapq.heappop(timers)[2]
            if handle.gone:
                self.cancelled_timers -= 1
            else:
                handle.when = None
                ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.gone and (handle.process is None or not handle.process.dead):
                handle.run()

    def _process_events(self, event_list: Any) -> None:
        return None

    def _write_to_self(self) -> None:
        return None


class _Handle:
    """A callback with its process. Without a given context, all handles of a process share the process's context,
    because a simulation has millions of handles and a copy for each would be too much."""

    __slots__ = ("_args", "_callback", "_context", "_loop", "gone", "process", "when")

    def __init__(self, loop: VirtualLoop, callback: Callable[..., object], args: tuple[Any, ...],
                 context: Context | None, when: float | None = None) -> None:  # fmt: skip
        if context is None:
            process = PROCESS.get()
            context = NO_PROCESS if process is None else process.context
        else:
            process = context.get(PROCESS)
        self.process = process
        self.gone = False
        self.when = when
        self._loop = loop
        self._callback = callback
        self._args = args
        self._context = context

    def run(self) -> None:
        try:
            self._context.run(self._callback, *self._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._loop.call_exception_handler({"message": f"in {self._callback}", "exception": error})

    def cancel(self) -> None:
        if not self.gone:
            self.gone = True
            self._callback, self._args = _nothing, ()
            if self.when is not None:
                self._loop.cancelled_timers += 1

    def cancelled(self) -> bool:
        return self.gone


def _nothing() -> None:
    return None


class _Task(asyncio.Task[Any]):
    """A task hashed by its number, so that a set of tasks is iterated in the same order in every run."""

    def __init__(self, number: int, coro: Any, loop: VirtualLoop, context: Context | None) -> None:
        self._number = number
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if context is None and process is not None:
            context = process.context
        super().__init__(coro, loop=loop, context=context)
        self._log_destroy_pending = False  # a killed process leaves tasks behind
        if process is not None:
            process.tasks.add(self)
            loop.keep_of_dying(process, self)

    def __hash__(self) -> int:
        return self._number


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run ``main`` in a new loop and return its result. Nothing that it leaves behind runs any more.

    Raises Stuck if ``main`` waits for an event that cannot happen.
    """
    loop = VirtualLoop()
    thresholds, hook = gc.get_threshold(), sys.unraisablehook
    gc.set_threshold(0)  # a simulation makes no cycles, and searching millions of objects takes seconds
    try:
        return loop.run_until_complete(main(loop))
    finally:
        sys.unraisablehook = lambda unraisable: None  # raised by coroutines that are dropped while they wait
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # raised by coroutines that never started
                for handle in (*loop._ready, *(each[2] for each in loop._timers)):  # type: ignore[attr-defined]
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
    except (RuntimeError, ValueError):  # its ``finally`` awaits too
        return
