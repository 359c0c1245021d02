"""Spell topics below a root on NATS: subjects, and the names of streams and buckets."""

from __future__ import annotations

from heliograph.bus.contract import registry, topics

FROM_ANOTHER_ACCOUNT = "_R_."
"""Beginning of the reply subject of a request that came from another account: the server made it for this request."""


class Subjects:
    """The spelling under one root; each tenant of a broker has a root of its own."""

    def __init__(self, root: str) -> None:
        self._root = root.split("/")
        self._dotted_root = ".".join(self._root) + "."
        self._prefix = "" if root == topics.DEFAULT_ROOT else "-".join(self._root) + "-"

    def subject(self, pattern: str) -> str:
        """Return the NATS subject of a topic or pattern below the root."""
        words = [{"+": "*", "#": ">"}.get(word, word) for word in pattern.split("/")]
        return ".".join([*self._root, *words])

    def address(self, subject: str) -> str:
        """Return the topic below the root of a NATS subject."""
        return subject.removeprefix(self._dotted_root).replace(".", "/")

    def is_ours(self, subject: str) -> bool:
        """Return whether a subject lies below the root."""
        return subject.startswith(self._dotted_root)

    def is_inbox(self, subject: str) -> bool:
        """Return whether only the sender of a request subscribes to a subject."""
        return subject.startswith(("_INBOX.", FROM_ANOTHER_ACCOUNT, f"{self._dotted_root}reply."))

    def reply_subject(self, address: str) -> str:
        return address if self.is_inbox(address) else self.subject(address)

    def reply_address(self, subject: str) -> str:
        return subject if self.is_inbox(subject) else self.address(subject)

    def stream_name(self, name: str) -> str:
        """Return the name of a stream or bucket on the broker."""
        return self._prefix + name

    def stream_of(self, pattern: str) -> str:
        """Return the name of the stream that stores a pattern's messages. Raises Refused if none does."""
        return self.stream_name(registry.declared().stream_of(pattern).name)
