"""Which packages of code may run on this node: those whose digest its operator has listed, or signed.

Both come from this node alone: from the agent's options, and from a file of digests that is read again when it changes.
No message allows anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.core.errors import Refused
from heliograph.core.names import is_digest
from heliograph.core.world import World

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import PackageSpec

LOOK = 2.0
"""Seconds between two looks at the file."""
MAX_FILE = 1 << 20
"""Bytes of the file, at most: some ten thousand digests."""


@dataclass(frozen=True)
class Forbidden:
    """Why a package may not run; ``final`` where listing its digest would not mend it."""

    reason: str
    final: bool = False


@dataclass(frozen=True)
class Allowance:
    """What the operator has allowed.

    Attributes:
        digests: digests of packages that may run.
        keys: PEM of each public key whose signature allows a package, by its id.
    """

    digests: frozenset[str] = frozenset()
    keys: Mapping[str, str] = field(default_factory=dict)

    def refusal(self, package: PackageSpec) -> Forbidden | None:
        """Return why a package may not run; None where it may.

        A signature in the name of a trusted key that is not that key's is refused even where the digest is listed:
        whoever made it up wanted to deceive.
        """
        what, signature = f"package {package.digest[:12]} of algorithm {package.algorithm}", package.signature
        unsigned = "it is not signed"
        if signature is not None and self.keys:
            from heliograph.bus.contract.package_signature import check_signature, claims_trusted

            try:
                check_signature(signature, package.digest, self.keys)
            except Refused as error:
                if claims_trusted(signature, self.keys):
                    return Forbidden(f"{what}: bad signature: {error}", final=True)
                unsigned = "no key that this node trusts has signed it"
            else:
                return None
        if package.digest in self.digests:
            return None
        why = f", and {unsigned}" if self.keys else ""
        return Forbidden(
            f"{what} is not allowed on this node: {package.digest} is not listed{why}. The node's operator lists it "
            "(--allow-package, --allowed-packages) or signs it (--package-keys)"
        )


class AllowedPackages:
    """Reads what the operator has allowed.

    Args:
        file: one digest a line; ``#`` begins a comment. A file that cannot be read allows nothing.
        warn: called with a line about the file.
    """

    def __init__(
        self, digests: Collection[str], file: Path | None, keys: Mapping[str, str], world: World,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._digests = frozenset(digests)
        self._file = file
        self._keys = dict(keys)
        self._world = world
        self._warn = warn
        self._stamp: object = None
        self._warned = ""
        self.now = Allowance(self._digests, self._keys)
        self.read()

    def read(self) -> bool:
        """Read the file again if it has changed. Return whether something else is allowed now."""
        if self._file is None or (stamp := _stamp(self._file)) == self._stamp:
            return False
        self._stamp = stamp
        before, self.now = self.now, Allowance(self._digests | self._listed(self._file), self._keys)
        return before != self.now

    async def watch(self, changed: Callable[[], None]) -> None:
        """Read the file again whenever it has changed, until cancelled. Call ``changed`` if something else is allowed.
        """
        while self._file is not None:
            await self._world.sleep(LOOK)
            if self.read():
                changed()

    def _listed(self, file: Path) -> frozenset[str]:
        try:
            with file.open("rb") as source:
                raw = source.read(MAX_FILE + 1)
        except OSError as error:
            self._note(f"{file}: {error.strerror or error}; it allows no package")
            return frozenset()
        if len(raw) > MAX_FILE:
            self._note(f"{file}: expected at most {MAX_FILE} bytes, got more; it allows no package")
            return frozenset()
        lines = raw.decode(errors="replace").splitlines()
        words = [(number, line.partition("#")[0].split()) for number, line in enumerate(lines, 1)]
        wrong = next((number for number, found in words if found and not is_digest(found[0])), 0)
        if wrong:
            self._note(f"{file}:{wrong}: expected a SHA-256 in 64 hexadecimal digits; this line allows nothing")
        return frozenset(found[0] for _, found in words if found and is_digest(found[0]))

    def _note(self, line: str) -> None:
        if line != self._warned:
            self._warned = line
            self._warn(line)


def _stamp(file: Path) -> object:
    """Return what changes with a file's content: None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return ""
    return found.st_mtime_ns, found.st_size, found.st_ino
