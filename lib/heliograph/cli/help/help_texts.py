"""The texts of ``heliograph help``: a page for each exit code, and a sentence for each code of an error."""

from __future__ import annotations

from collections.abc import Iterable

from heliograph.cli.exit_codes import EXIT_CODES, ExitCode


def page(code: ExitCode, markdown: bool) -> str:
    """Return an exit code's page, for the terminal or for docs/exit-codes."""
    title = f"Exit code {code.code}: {code.name}"
    parts = [f"# {title}" if markdown else title, code.meaning]
    for head, lines in (("When", code.causes), ("What to do", code.cures), ("Elsewhere", code.exceptions)):
        if lines:
            parts.append("\n".join([f"## {head}\n" if markdown else f"{head}:", *_listed(lines, markdown)]))
    if markdown:
        parts.append(f"`heliograph help {code.code}` prints this page. [All codes](README.md).")
    return "\n\n".join(parts) + "\n"


def table(markdown: bool) -> str:
    """Return the list of all exit codes."""
    if not markdown:
        width = max(len(each.name) for each in EXIT_CODES.values())
        lines = [f"{code:>3}  {each.name.ljust(width)}  {each.meaning}" for code, each in EXIT_CODES.items()]
        return "\n".join([*lines, "", "A code's page: heliograph help CODE"]) + "\n"
    rows = [f"| [{code}]({code}.md) | {each.name} | {each.meaning} |" for code, each in EXIT_CODES.items()]
    return "\n".join([
        "# Exit codes", "",
        "A command says how it ended by its exit code, and why by one line on stderr that begins with `error:`. The",
        "codes are stable ([compatibility](../compatibility.md)); new ones may come. `heliograph help CODE` prints a",
        "page.", "",
        "| code | name | meaning |", "|---|---|---|", *rows, "",
        "`watch` tells by its exit code how a job ended: 0 succeeded, 1 failed, 2 stopped, 3 deleted; 4 and above are",
        "as everywhere.", "", "These pages are written by `make exit-codes` from `cli/exit_codes.py`.",
    ]) + "\n"  # fmt: skip


def error_code(word: str) -> str:
    """Return cause and cure of a code that a refusal carries; empty where there is none of that name."""
    from heliograph.cli.exit_codes import exit_code_of
    from heliograph.core.error_codes import ANSWERS, ELSEWHERE
    from heliograph.core.errors import Refused

    found = ANSWERS.get(word) or ELSEWHERE.get(word)
    if found is None:
        return ""
    plain = (text.replace("`", "") for text in found)
    return "\n".join([f"Error {word}", "", *plain, "", f"Exit code: {exit_code_of(Refused(word))}"]) + "\n"


def _listed(lines: Iterable[str], markdown: bool) -> list[str]:
    if markdown:
        return [f"- {line}" for line in lines]
    from textwrap import fill

    return [
        fill(line.replace("`", ""), 78, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
        for line in lines
    ]
