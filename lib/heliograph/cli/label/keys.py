"""Keys of a terminal, one at a time; lines of stdin where it is none."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

RESERVED = "suq"
"""Keys that are no class: skip, undo, quit."""
CHOICE_KEYS = "1234567890abcdefghijklmnoprtvwxyz"
ENTER = "\n"
END = "\x04"


class Keyboard:
    """The keys that a person presses; a context manager, which gives the terminal back as it was."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdin.isatty()
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if self.is_terminal:
            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._before is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    async def key(self) -> str:
        """Return the next key; ``END`` at the end of the input. Without a terminal, the next line."""
        if not self.is_terminal:
            return await self.line()
        return (await self._read()) or END

    async def line(self) -> str:
        """Return the next line, shown as it is typed; ``END`` at the end of the input."""
        if not self.is_terminal:
            line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            return line.rstrip("\r\n") if line else END
        typed = ""
        while True:
            key = (await self._read()) or END
            if key in ("\r", "\n"):
                print(flush=True)
                return typed
            if key == END:
                return END
            if key in ("\x7f", "\b"):
                print("\b \b" if typed else "", end="", flush=True)
                typed = typed[:-1]
            elif key.isprintable():
                typed += key
                print(key, end="", flush=True)

    async def _read(self) -> str:
        loop = asyncio.get_running_loop()
        pressed: asyncio.Future[None] = loop.create_future()
        loop.add_reader(sys.stdin, lambda: None if pressed.done() else pressed.set_result(None))
        try:
            await pressed
        finally:
            loop.remove_reader(sys.stdin)
        first = os.read(sys.stdin.fileno(), 1)
        more = {0xC0: 1, 0xE0: 2, 0xF0: 3}.get(first[0] & 0xF0 if first else 0, 0)
        text = (first + os.read(sys.stdin.fileno(), more) if more else first).decode(errors="replace")
        return ENTER if text == "\r" else text


def keys_of(classes: Sequence[str]) -> dict[str, str]:
    """Return a key for each class, in the classes' order: its own name where that is a key, else the digits from 1,
    then letters. Empty where there are too many: names are typed."""
    if len(classes) > len(CHOICE_KEYS):
        return {}
    named = {each for each in classes if len(each) == 1 and each in CHOICE_KEYS}
    free = iter([key for key in CHOICE_KEYS if key not in named])
    return {each if each in named else next(free): each for each in classes}
