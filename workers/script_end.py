"""Decide what the end of a user's script means: a pure function of the exception that ended it."""

from __future__ import annotations

from dataclasses import dataclass
from types import CodeType, TracebackType

from heliograph.core.errors import HeliographError, Refused
from heliograph.session import Kind, Reached

_LOOP = "replace the script's `for epoch in range(10):` by `for r in FederatedLearning(model).rounds(local=10):`"
_UNUSED: dict[Reached, str] = {
    "nothing": f"the script ended without using Heliograph, so that nothing was trained for the job: {_LOOP}",
    "imported": f"the script imports heliograph but makes no FederatedLearning: {_LOOP}",
    "made": f"the script makes a FederatedLearning, but never loops over its rounds(): {_LOOP}",
    "called": "the script calls rounds(), but takes no round of it: loop over it, `for r in fl.rounds():`",
}
_LEARNING = "replace the script's `train(x, y)` by `for this in IncrementalLearning(model).rounds(x, y):` with " \
    "`train(this.x, this.y)`"  # fmt: skip
_UNUSED_LEARNING: dict[Reached, str] = {
    "nothing": f"the script ended without using Heliograph, so that nothing was trained for the job: {_LEARNING}",
    "imported": f"the script imports heliograph but makes no IncrementalLearning: {_LEARNING}",
    "made": f"the script makes no loop over the rounds() of an IncrementalLearning: {_LEARNING}",
    "called": "the script calls rounds(), but takes no round of it: loop over it, `for this in il.rounds(x, y):`",
}
_PAIR = "replace the script's `train(deep, x, y)` and `train(shallow, x, y)` by `for part in " \
    "PairTraining(edge=shallow, cloud=deep).parts(x, y):` with `train(part.model, part.x, part.y)`"
_UNUSED_PAIR: dict[Reached, str] = {
    "nothing": f"the script ended without using Heliograph, so that nothing was trained for the job: {_PAIR}",
    "imported": f"the script imports heliograph but makes no PairTraining: {_PAIR}",
    "made": f"the script makes no loop over the parts() of a PairTraining: {_PAIR}",
    "called": "the script calls parts(), but takes none of them: loop over it, `for part in pair.parts(x, y):`",
}
_UNUSED_OF: dict[Kind, dict[Reached, str]] = {
    "FederatedTask": _UNUSED, "IncrementalLearningJob": _UNUSED_LEARNING, "PairTrainingJob": _UNUSED_PAIR,
}  # fmt: skip
IN_A_CHILD = "the script ended before a round, and a child process of it called rounds(): loop in the script itself, " \
    "and start child processes in the loop's body"  # fmt: skip
_MENDED_BY_ANOTHER_START = (OSError, MemoryError, EOFError)
"""Errors of the machine or the network, also where they are values of another kind too."""
_OF_THE_SCRIPT = (
    SyntaxError, ImportError, NameError, AttributeError, TypeError, ValueError, LookupError, AssertionError,
    ArithmeticError, NotImplementedError,
)  # fmt: skip
_ONE_SAMPLE = "Expected more than 1 value per channel when training"
"""PyTorch's words where batch normalisation gets a batch of one."""


@dataclass(frozen=True)
class ScriptEnd:
    """The end of a script.

    Attributes:
        code: the process's exit code.
        line: why the script failed; empty if it has not, or if its last line says it.
        final: whether another start cannot mend the failure.
        traceback: whether the user needs to see the error's traceback.
    """

    code: int
    line: str = ""
    final: bool = False
    traceback: bool = False


def end_of(
    error: BaseException | None, reached: Reached = "worked", in_child: bool = False, *, kind: Kind = "FederatedTask"
) -> ScriptEnd:
    """Return what the end of a script means.

    A failure before the first round is final where its kind says that the script, its arguments or its data are wrong;
    what Heliograph refuses is always final. A failure in a round may concern that round's model alone.

    Args:
        error: the exception that ended the script; None where it ran to its end.
        in_child: whether a child process of the script was refused a round.
        kind: of the job.
    """
    early = reached != "worked"
    if isinstance(error, SystemExit) and isinstance(error.code, str):  # as in Python: a message, with exit code 1
        return ScriptEnd(1, error.code, final=early)
    if isinstance(error, SystemExit) and error.code is not None and not isinstance(error.code, int):
        return ScriptEnd(1, str(error.code), final=early)
    if isinstance(error, SystemExit) and error.code:
        return ScriptEnd(int(error.code), _of_arguments(error), final=early)
    if error is None or isinstance(error, SystemExit):
        if not early:
            return ScriptEnd(0)
        return ScriptEnd(0, IN_A_CHILD if in_child else _UNUSED_OF[kind][reached],
                          final=True)  # fmt: skip
    if isinstance(error, HeliographError):
        return ScriptEnd(1, f"error: {error}", final=isinstance(error, Refused))
    line = f"{type(error).__name__}: {error}"
    if _ONE_SAMPLE in line:
        line += " (a batch has one sample: leave such a batch out, as DataLoader's drop_last=True does)"
    mended = isinstance(error, _MENDED_BY_ANOTHER_START) or not isinstance(error, _OF_THE_SCRIPT)
    return ScriptEnd(1, line, final=early and not mended, traceback=True)


def _of_arguments(error: SystemExit) -> str:
    """Return what argparse found wrong with the script's arguments; empty if it was not argparse that ended it."""
    part = error.__traceback__
    while part is not None:
        frame = part.tb_frame
        if frame.f_code.co_name == "error" and frame.f_code.co_filename.endswith("argparse.py"):
            message = str(frame.f_locals.get("message", ""))
            return f"the script's arguments: {message}; a job has them as trainScriptArguments, heliograph run after --"
        part = part.tb_next
    return ""


def places_of(traceback: TracebackType | None) -> dict[CodeType, int]:
    """Return each function's code in a traceback, with the instruction at which the error passed it."""
    found: dict[CodeType, int] = {}
    while traceback is not None:
        found[traceback.tb_frame.f_code] = traceback.tb_lasti
        traceback = traceback.tb_next
    return found
