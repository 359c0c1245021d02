"""The entry point of the command ``heliograph``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

OUTLIVING = ("agent", "coordinator", "up", "run", "demo", "join", "label-studio")
"""Commands that go on where nobody reads what they print, or the disk of their log is full."""


def main() -> None:
    """Run the typed command; print an expected error as one line on stderr."""
    from heliograph.cli.exit_codes import FAILED, INTERRUPTED, exit_code_of
    from heliograph.core.output import end_output, prepare_output

    words = sys.argv[1:]
    prepare_output(endures=next((each for each in words if not each.startswith("-")), "") in OUTLIVING)
    try:
        code = _run(words)
    except BrokenPipeError:  # whoever read the output wanted no more of it
        code = FAILED
    except Exception as error:
        if (line := _expected(error)) is None:
            raise
        print(f"error: {_shown(line)}", file=sys.stderr)
        code = exit_code_of(error)
    except KeyboardInterrupt:
        code = INTERRUPTED
    if (failed := end_output()) is not None:
        code = code or FAILED
        if not isinstance(failed, BrokenPipeError):
            print(f"error: {_expected(failed)}", file=sys.stderr)
    sys.exit(code)


def _run(words: Sequence[str]) -> int:
    from heliograph.cli import process_options, serve

    if words and words[0] in process_options.COMMANDS:  # long-running: keep their imports few
        return serve.main(words)
    from heliograph.cli.app import run

    return run(words)


def _shown(line: str) -> str:
    """Return a line that commands no terminal: an error names what came, whoever sent it."""
    from heliograph.core.text import encodable, harmless

    return harmless(encodable(line))


def _expected(error: BaseException) -> str | None:
    """Return the line for an expected error; None for a defect, which needs its traceback."""
    from heliograph.core.errors import HeliographError, first_error

    error = first_error(error)
    if isinstance(error, TimeoutError) and not str(error):
        return "nothing answered in time; is the machine busy, or the other side down? Run it again"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    return str(error) if isinstance(error, HeliographError) else None


if __name__ == "__main__":
    main()
