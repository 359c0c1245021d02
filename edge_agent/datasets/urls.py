"""The file that a data set's URL names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from heliograph.core.errors import Refused


def resolve(url: str, roots: Sequence[Path]) -> Path:
    """Return the file or directory that ``url`` names, an absolute path without links below a root; it need not exist.

    Args:
        url: ``file:///data/x.npz``, an absolute path, or a path relative to a root; of several roots that fit, the
            first in which the file exists wins.
        roots: directories the agent was started with.

    Raise Refused, field ``spec.url``, where the URL leads elsewhere, by ``..`` or a link, or has another form.
    """
    text = url
    if "://" in url or url.startswith("file:"):
        # by hand: urlsplit would cut a file's name at '?' or '#'
        text = unquote(url.removeprefix("file://").removeprefix("localhost"))
        if not url.startswith("file:///") and not url.startswith("file://localhost/"):
            raise _refused(url, roots)
    found = []
    for root in roots:
        try:
            base = root.resolve()
            candidate = (base / text).resolve()
            if text and candidate != base and candidate.is_relative_to(base):
                found.append((not candidate.exists(), candidate))
        except (OSError, ValueError, RuntimeError):
            continue  # a name too long, a null byte, a circle of links
    if not found:
        raise _refused(url, roots)
    return min(found, key=lambda each: each[0])[1]


def _refused(url: str, roots: Sequence[Path]) -> Refused:
    allowed = f"a file below {' or '.join(map(str, roots))}" if roots else "none, as no root is allowed"
    hint = "Write a path or file:///path; move the file there, or start the agent with --data DIR where DIR holds it."
    return Refused("not-allowed", field="spec.url", expected=allowed, got=url, hint=hint)
