"""Run a component until a signal ends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio

AGAIN = 10.0
"""Seconds in which a task that was asked to end is not asked again: it is ending what it has started."""


class Component(Protocol):
    """What runs until it is cancelled."""

    def run(self) -> Coroutine[Any, Any, None]: ...


def ending(task: asyncio.Task[Any]) -> Callable[[], None]:
    """Return a signal's handler that ends a task. Who presses Ctrl-C twice interrupts no end that is under way."""
    loop = task.get_loop()
    asked = float("-inf")

    def end() -> None:
        nonlocal asked
        if loop.time() - asked >= AGAIN:
            asked = loop.time()
            task.cancel()

    return end


def run_until_signalled(make: Callable[[], Awaitable[Component]], greeting: str) -> None:
    """Create a component in the loop that runs it, print the greeting, and run it, until a signal ends either."""
    import asyncio
    import signal

    from heliograph.cli.printing.output import say
    from heliograph.core.private_files import private_files

    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()

    async def made_and_run() -> None:
        component = await make()
        say(greeting)
        await component.run()

    async def until_signalled() -> None:
        task = asyncio.create_task(made_and_run())
        loop, end = asyncio.get_running_loop(), ending(task)
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, end)
        try:
            await task
        except asyncio.CancelledError:
            return

    with private_files(), runner:
        runner.run(until_signalled())
