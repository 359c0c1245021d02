"""The kinds of resources in help texts and completions, which are made before the registry is loaded."""

from __future__ import annotations

_BUILT_IN = ("jobs", "services", "edges", "models", "datasets", "algorithms", "labels", "quarantines")
KINDS = f"{', '.join(_BUILT_IN)}, or a feature's resources"


def complete_kind(incomplete: str) -> list[str]:
    """Return the kinds that begin with what has been typed, for a shell's completion."""
    return [kind for kind in _BUILT_IN if kind.startswith(incomplete)]
