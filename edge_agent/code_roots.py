"""The user's code on a node: the roots of scripts, and the script and import directory that a document names below
one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import ScriptSpec


@dataclass(frozen=True)
class CodeRoot:
    """A directory for scripts, resolved, and the absolute path by which tasks name it.

    Attributes:
        state: the agent's state directory, resolved, which holds what messages brought: no code lies below it, although
            it may lie below the root.
    """

    prefix: Path
    directory: Path
    state: Path | None = None

    @classmethod
    def parse(cls, text: str) -> CodeRoot:
        """Parse ``DIR`` or ``/code=DIR``; with the latter a task's ``/code/main.py`` is ``DIR/main.py`` here."""
        prefix, equals, directory = text.rpartition("=")
        resolved = Path(directory).resolve()
        return cls(Path(prefix) if equals else resolved, resolved)

    def below(self, name: str) -> Path | None:
        """Return the path that a document names, links resolved, where it lies below this root; otherwise None.

        A name is relative to the root, or absolute below the root's prefix. ``..`` is refused even where it stays
        below the root.
        """
        named = Path(name)
        if "\0" in name or ".." in named.parts:
            return None
        if named.is_absolute():
            if not named.is_relative_to(self.prefix):
                return None
            named = named.relative_to(self.prefix)
        try:
            resolved = (self.directory / named).resolve()
            resolved.exists()  # raises for a name that is too long
        except (OSError, ValueError, RuntimeError):  # also a circle of links; text that is no file name
            return None
        if not resolved.is_relative_to(self.directory):
            return None
        return None if self.state is not None and resolved.is_relative_to(self.state) else resolved


@dataclass(frozen=True)
class Code:
    """The code of a task on this node, links resolved; it need not exist.

    Attributes:
        boot_file: the script.
        directory: the directory that the script imports from; None where the document names one outside the root of
            the script.
        working_directory: the directory whose files the script finds by relative names; None where the document names
            one outside every root.
    """

    boot_file: Path
    directory: Path | None
    working_directory: Path | None

    @property
    def is_here(self) -> bool:
        """Return whether all of it exists on this node."""
        directories = (self.directory, self.working_directory)
        return self.boot_file.is_file() and all(each is not None and each.is_dir() for each in directories)


def locate(script: ScriptSpec, roots: Sequence[CodeRoot]) -> Code | None:
    """Return the code that a document names; None where its script lies below none of the roots.

    Script and directory lie below the same root. Without a directory the script imports from its own. A relative name
    may lie below any root: the first root that has the code on its disk is taken, or else the first that may have it.
    """
    found = [code for root in roots if (code := _below(script, root, roots)) is not None]
    here = (code for code in found if code.is_here)
    allowed = (code for code in found if code.directory is not None and code.working_directory is not None)
    return next(here, None) or next(allowed, None) or next(iter(found), None)


def _below(script: ScriptSpec, root: CodeRoot, roots: Sequence[CodeRoot]) -> Code | None:
    """Return the code whose script lies below this root."""
    boot_file = root.below(script.boot_file)
    if boot_file is None:
        return None
    directory = root.below(script.directory) if script.directory else boot_file.parent
    working_directory = directory
    if script.working_directory:
        named = [path for each in (root, *roots) if (path := each.below(script.working_directory)) is not None]
        working_directory = next((path for path in named if path.is_dir()), next(iter(named), None))
    return Code(boot_file, directory, working_directory)
