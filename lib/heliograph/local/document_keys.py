"""The keys that sign what the cloud wants of its nodes: the one that signs, and the next one, which nodes obey already.

    document-key.pem        the private key that signs
    next-document-key.pem   the private key that signs next; only while keys change
    coordinator-keys.pem    the public keys of both, which nodes obey

A key changes in two steps. First the next one is made, and every login that is renewed tells its node of both. Once all
nodes know it, it signs, and the one before is forgotten.
"""

from __future__ import annotations

from pathlib import Path

from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Refused
from heliograph.core.private_files import make_private
from heliograph.core.world import World


class DocumentKeys:
    """The directory of one cloud's keys for desired documents."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.signing = directory / "document-key.pem"
        self.next = directory / "next-document-key.pem"
        self.public = directory / "coordinator-keys.pem"

    def write(self, world: World) -> None:
        """Make the key that signs, where there is none, and write the public keys."""
        make_private(self._directory)
        keys = [Ed25519Signer.kept(self.signing, world)]
        if self.next.exists():
            keys.append(Ed25519Signer.of(self.next))
        text = "".join(each.public_key for each in keys)
        if not self.public.exists() or self.public.read_text() != text:
            self.public.write_text(text)

    def prepare_next(self, world: World) -> None:
        """Make the next key, unless there is one, and let nodes obey it beside the present one."""
        Ed25519Signer.kept(self.next, world)
        self.write(world)

    def sign_with_next(self, world: World) -> None:
        """Let the next key sign, and forget the present one. Raise Refused where no next key was made."""
        if not self.next.exists():
            raise Refused("invalid", field="--document-key", expected=f"a next key, {self.next}", got="none",
                          hint="Make it first, and give nodes a day to learn of it: --document-key next.")  # fmt: skip
        self.next.replace(self.signing)
        self.write(world)

    def replace(self, world: World) -> None:
        """Let a new key sign at once, and forget all others: one of them was stolen. Nodes obey the new one once their
        login is renewed."""
        self.next.unlink(missing_ok=True)
        self.prepare_next(world)
        self.sign_with_next(world)
