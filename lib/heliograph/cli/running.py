"""Run a component until a signal ends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol


class Component(Protocol):
    """What runs until it is cancelled."""

    def run(self) -> Coroutine[Any, Any, None]: ...


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
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return

    with private_files(), runner:
        runner.run(until_signalled())
