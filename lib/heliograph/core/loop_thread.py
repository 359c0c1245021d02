"""An event loop in a thread of its own, for callers that block."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar
from weakref import finalize

T = TypeVar("T")
PATIENCE = 2.0
"""Seconds for a loop to stop: what it runs at the moment is not interrupted."""


class LoopThread:
    """An event loop that runs coroutines for other threads, until it is closed, forgotten, or its process ends."""

    def __init__(self, name: str) -> None:
        try:
            import uvloop

            self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        except ImportError:
            self.loop = asyncio.new_event_loop()
        self._thread = _Looping(self.loop, name)
        self._thread.start()
        _running.add(self._thread)
        finalize(self, self._thread.stop).atexit = False

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the loop. Raise RuntimeError if the loop has stopped, as it does when its process ends."""
        if not self._thread.is_alive():
            coroutine.close()
            raise RuntimeError(f"the thread {self._thread.name} has ended: it was closed, or the program is ending")
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result, blocking the calling thread. Raise as ``submit`` does."""
        return self.submit(coroutine).result()

    def close(self) -> None:
        self._thread.stop()
        self._thread.join(PATIENCE)
        if not self._thread.is_alive():
            self.loop.close()


class _Looping(threading.Thread):
    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._loop = loop

    def run(self) -> None:
        self._loop.run_forever()
        _running.discard(self)

    def stop(self) -> None:
        """Stop the loop. In a forked child this thread does not live."""
        if self.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)


_running: set[_Looping] = set()


def _stop_all() -> None:
    """Stop every loop before the interpreter ends: a callback of uvloop that ran later would crash the process."""
    threads = list(_running)
    for thread in threads:
        thread.stop()
    for thread in threads:
        if thread.is_alive():
            thread.join(PATIENCE)


atexit.register(_stop_all)
