"""``agent`` and ``coordinator``: the long-running processes, ended by SIGTERM or Ctrl-C.

They parse their arguments with argparse alone: an import stays in memory as long as the process runs, and an idle agent
has to fit a small machine.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(words: Sequence[str]) -> int:
    """Run the command that the first word names until a signal ends it; return the exit code."""
    if words[0] == "agent":
        from heliograph.cli import agent_process

        return agent_process.main(words[1:])
    from heliograph.cli import coordinator_process

    return coordinator_process.main(words[1:])
