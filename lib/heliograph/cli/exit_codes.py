"""The exit codes of ``heliograph``: the one list, from which ``heliograph help`` and the pages in docs/ are made."""

from __future__ import annotations

from dataclasses import dataclass

DONE, FAILED, NOT_UNDERSTOOD, DELETED, NOT_FOUND, UNREACHABLE, FORBIDDEN, CONFLICT = range(8)
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


@dataclass(frozen=True)
class ExitCode:
    """One exit code.

    Attributes:
        name: one word or two for tables.
        meaning: what has happened, as one sentence.
        causes: when a command ends so.
        cures: what to do next; empty where there is nothing to do.
        exceptions: commands that give the code a meaning of their own.
    """

    code: int
    name: str
    meaning: str
    causes: tuple[str, ...]
    cures: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()


EXIT_CODES: dict[int, ExitCode] = {
    each.code: each
    for each in (
        ExitCode(
            DONE, "done", "The command has done what it was asked for.",
            ("An empty result is no failure: `get` of a kind without resources ends so, too.",
             "`agent` and `coordinator` end so at SIGTERM and Ctrl-C."),
            exceptions=("`watch`: the job has succeeded.", "`doctor`: nothing is wrong; warnings may be there.",
                        "`trace check`: the component published what was recorded.",
                        "`simulate`: all expectations hold.", "`gate`: the new model may replace the deployed one."),
        ),
        ExitCode(
            FAILED, "failed", "The command was understood, and refused or failed.",
            ("A document has a value that is not accepted, or names something that is not there.",
             "A file cannot be read or written; the disk is full; a package is not installed.",
             "What ran has failed: a script, a check, a run."),
            ("Read the line that begins with `error:`. It names the topic or file, the field, what was expected, what "
             "came, and the next step.",
             "Its codes for programs are explained by `heliograph help CODE`, `heliograph help unknown-field` for "
             "example."),
            ("`watch`: the job has failed.", "`doctor`: a check found a problem; its line says how to mend it.",
             "`trace record`, `trace replay`: messages or blobs are missing.",
             "`trace check`: the component published something else than was recorded.",
             "`simulate`: an expectation does not hold.", "`gate`: the new model may not, or it is undecided."),
        ),
        ExitCode(
            NOT_UNDERSTOOD, "not understood", "The command line has a mistake; nothing was asked of any cluster.",
            ("An unknown command, option or kind; a missing argument; a name that is no DNS label.",
             "A selector, a JSONPath or a duration that cannot be read."),
            ("Read the command's help: `heliograph help COMMAND`.",),
            ("`watch`: the job was stopped.",),
        ),
        ExitCode(
            DELETED, "deleted", "The resource that was followed has been deleted.",
            ("Somebody deleted the resource of a `watch`, or replaced it by another one of its name.",),
            ("`metadata.createdBy` of a new one names who created it.",),
        ),
        ExitCode(
            NOT_FOUND, "not found", "There is no resource of that name, or no version of that number.",
            ("The name has a typing mistake, or its resource was deleted.",
             "`HELIOGRAPH_SERVER` or `--server` names another cluster than the one that is meant."),
            ("List what is there: `heliograph get KIND`.",),
        ),
        ExitCode(
            UNREACHABLE, "unreachable", "Nobody answers, or not now: the same command may succeed later.",
            ("No cluster is running, or none was named.", "The broker cannot be reached, or the link was cut.",
             "No coordinator leads at the moment, or it cannot reach its store.",
             "This caller has more requests waiting than its queue has room for."),
            ("Run it again; in a script: `until heliograph get edges; do sleep 1; done`.",
             "Where it stays so: `heliograph doctor`."),
        ),
        ExitCode(
            FORBIDDEN, "forbidden", "The broker does not let this login in, or does not let it do that.",
            ("The token is wrong or is an earlier cluster's.", "Anonymous clients read statuses and nothing else.",
             "Only an operator reads logs, events of others and streams.",
             "This user lacks the scope that the error names, in the resource's project: `heliograph get users`."),
            ("Use a login of the right role: `--server FILE`, with a `cluster.json` that `heliograph up` has "
             "written.",
             "`heliograph doctor` says what this login may do.",
             "An operator grants a scope: `heliograph user grant NAME SCOPE --project PROJECT`."),
        ),
        ExitCode(
            CONFLICT, "conflict", "Somebody else has changed the resource meanwhile; nothing was changed.",
            ("The document names a `metadata.resourceVersion` that is not the newest any more.",),
            ("Get the resource again, apply the change to it, and send it. Without a `resourceVersion` the last "
             "write counts.",),
        ),
        ExitCode(
            INTERRUPTED, "interrupted", "Ctrl-C has ended the command.",
            ("Commands that follow something (`get -w`, `logs`, `events -w`, `up`) end so; it is no failure.",
             "SIGTERM and a closed terminal end `up`, `run` and `demo` so."),
        ),
    )
}  # fmt: skip

_OF_REFUSALS = {
    "conflict": CONFLICT,
    "forbidden": FORBIDDEN,
    "no-version": NOT_FOUND,
    "not-found": NOT_FOUND,
    "overloaded": UNREACHABLE,
    "too-many-requests": UNREACHABLE,
    "unavailable": UNREACHABLE,
    "unreachable": UNREACHABLE,
}


def exit_code_of(error: BaseException) -> int:
    """Return the exit code for an expected error."""
    from heliograph.core.errors import Conflict, Forbidden, Refused, Unreachable, first_error

    error = first_error(error)
    if isinstance(error, Refused):
        return _OF_REFUSALS.get(error.code, FAILED)
    if isinstance(error, Conflict):
        return CONFLICT
    if isinstance(error, Forbidden):
        return FORBIDDEN
    return UNREACHABLE if isinstance(error, (Unreachable, TimeoutError)) else FAILED
