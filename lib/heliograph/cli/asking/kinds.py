"""The kinds of resources in help texts and completions, which are made before the registry is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

_WORK = ("jobs", "services", "incremental-jobs", "pair-jobs")
_BUILT_IN = (*_WORK, "edges", "models", "datasets", "algorithms", "labels", "invitations", "users", "quarantines")
KINDS = f"{', '.join(_BUILT_IN)}, or a feature's resources"
PATIENCE = 1.0
"""Seconds that a completion waits for the cluster: whoever pressed the key waits with it."""


def complete_target(context: typer.Context, incomplete: str) -> list[str]:
    """Return kinds, or behind a slash the kind's resources."""
    return _targets(context, incomplete, _BUILT_IN)


def complete_work(context: typer.Context, incomplete: str) -> list[str]:
    """Return jobs and services, likewise."""
    return _targets(context, incomplete, _WORK)


def complete_of(*kinds: str) -> Callable[[typer.Context, str], list[str]]:
    """Return the completion of ``KIND/NAME`` for these kinds."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        return _targets(context, incomplete, kinds)

    return complete


def complete_name(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the kind that stands before."""
    kind = context.params.get("resource") or ""
    if not kind or "/" in kind:
        return []
    return [name for name in _names(context, kind if kind.endswith("s") else f"{kind}s") if name.startswith(incomplete)]


def _targets(context: typer.Context, incomplete: str, kinds: Iterable[str]) -> list[str]:
    kind, slash, _ = incomplete.partition("/")
    if not slash:
        return [each for each in kinds if each.startswith(incomplete)]
    plural = kind if kind.endswith("s") else f"{kind}s"
    return [found for name in _names(context, plural) if (found := f"{kind}/{name}").startswith(incomplete)]


def _names(context: typer.Context, plural: str) -> list[str]:
    """Return the names of a kind's resources; none where the cluster does not answer: a completion says no errors."""
    import asyncio

    from heliograph.bus.contract.registry import declared
    from heliograph.client import AsyncClient
    from heliograph.core.errors import HeliographError

    async def names() -> list[str]:
        async with AsyncClient(context.params.get("server"), timeout=PATIENCE) as client:
            return [each["metadata"]["name"] for each in await client.resources(plural).list()]

    if "list" not in declared().verbs.get(plural, ()):
        return []
    try:
        return asyncio.run(names())
    except (HeliographError, OSError, TimeoutError, ValueError, KeyError, TypeError):
        return []
