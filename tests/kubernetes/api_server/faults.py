"""Faults that a test gives the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Faults:
    """What goes wrong from now on.

    Attributes:
        hangs: requests are taken, and never answered.
        status: requests are answered with this status; 0 for none. See ``retry_after``.
        retry_after: the header beside ``status``; empty for none.
        ends_watches: each watch ends at once.
        silent_watches: watches say nothing, not even that they end.
        expires_watches: each watch says that its version is expired.
        latency: seconds before each answer.
        forbidden: pairs of verb and resource that are refused; ``("*", "jobs.batch")`` refuses each verb.
        rights: whether the bearer of a token may, by verb, resource and namespace; who has none here may all.
        closed_body: answers of lists break off in the middle.
        garbage: answers are this text, with status 200; None for none.
    """

    hangs: bool = False
    status: int = 0
    retry_after: str = ""
    ends_watches: bool = False
    silent_watches: bool = False
    expires_watches: bool = False
    latency: float = 0.0
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    rights: dict[str, Callable[[str, str, str], bool]] = field(default_factory=dict)
    closed_body: bool = False
    garbage: str | None = None

    def is_forbidden(self, verb: str, resource: str, namespace: str = "", token: str = "") -> bool:
        if token in self.rights and not self.rights[token](verb, resource, namespace):
            return True
        return not self.forbidden.isdisjoint({(verb, resource), ("*", resource), (verb, "*")})

    async def delay(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.latency:
            await asyncio.sleep(self.latency)
