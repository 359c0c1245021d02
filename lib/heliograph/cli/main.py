"""``heliograph``: the entry of the command."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main() -> None:
    """Runs what was typed; what is expected to go wrong is one line on stderr."""
    try:
        code = _run(sys.argv[1:])
    except Exception as error:
        if (line := _expected(error)) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _run(words: Sequence[str]) -> int:
    from heliograph.cli import serve

    if words and words[0] in serve.COMMANDS:  # these stay, and what they import with them
        return serve.main(words)
    from heliograph.cli.app import run

    return run(words)


def _expected(error: BaseException) -> str | None:
    """The line that says an expected error; None for a mistake of ours, whose traceback is wanted."""
    from heliograph.core.errors import HeliographError

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    return str(error) if isinstance(error, HeliographError) else None


if __name__ == "__main__":
    main()
