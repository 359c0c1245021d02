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
NOBODY = Context()
"""Of what no process does."""


class Stuck(RuntimeError):
    """Nothing is left that could ever happen, and what was waited for has not; or it never ends."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order of their virtual time, and of their scheduling within it.

    Attributes:
        disk_seconds: what a function takes that is run in an executor; it runs at the end of that time.
        cancelled_timers: how many of those that wait.
        most_turns: after so many the run is broken off: something goes round in circles; 0: never.
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
        """Tasks of killed processes: collected as garbage they would run their ``finally`` after all."""
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, _Handle]] = []

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> _Handle:  # type: ignore[override]
        handle = _Handle(self, callback, args, context)
        if self._lives(handle):
            self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> _Handle:
        handle = _Handle(self, callback, args, context, when)
        if self._lives(handle):
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

    def _lives(self, handle: _Handle) -> bool:
        """Whether the process to which a handle belongs does; counts its step."""
        process = handle.process
        if process is None:
            return True
        if process.dead:
            handle.gone = True
            return False
        process.steps += 1
        if process.steps == process.dies_at:
            handle.gone = True
            self._keep(process)  # now: the handle may be all that holds its task
            self._ready.appendleft(_Handle(self, self.kill, (process,), NOBODY))  # type: ignore[attr-defined]
            return False
        return True

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers  # type: ignore[attr-defined]
        self._turns += 1
        if self._turns == self.most_turns:
            raise Stuck(f"still going on after {self._turns} turns, {self._now:g} s of its own clock")
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
                raise Stuck("nothing is left that could happen, and what is waited for has not")
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
    """What is to be called, and for which process. Where no context is given, it is the process' own for all of them,
    as with tasks: of what they would copy for each a simulation has millions."""

    __slots__ = ("_args", "_callback", "_context", "_loop", "gone", "process", "when")

    def __init__(self, loop: VirtualLoop, callback: Callable[..., object], args: tuple[Any, ...],
                 context: Context | None, when: float | None = None) -> None:  # fmt: skip
        if context is None:
            process = PROCESS.get()
            context = NOBODY if process is None else process.context
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
    """Numbered, and hashed by its number: a set of tasks is iterated in the same order in every run."""

    def __init__(self, number: int, coro: Any, loop: Any, context: Context | None) -> None:
        self._number = number
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if context is None and process is not None:
            context = process.context
        super().__init__(coro, loop=loop, context=context)
        self._log_destroy_pending = False  # a killed process leaves tasks behind
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
    gc.set_threshold(0)  # nothing here makes cycles, and to look for them among millions of objects takes seconds
    try:
        return loop.run_until_complete(main(loop))
    finally:
        sys.unraisablehook = lambda unraisable: None  # coroutines that are dropped where they wait
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # and those that never began
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
    except (RuntimeError, ValueError):  # it waits in its finally, too
        return
