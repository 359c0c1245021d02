"""What the end of a script means: whether it failed, in which words, and whether another start mends it."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from heliograph.core.errors import HeliographError, Refused
from heliograph.session import Kind, Reached
from heliograph.workers.script_end import IN_A_CHILD, ScriptEnd, end_of


@pytest.mark.parametrize("error", [None, SystemExit(), SystemExit(0), SystemExit(None)])
def test_a_script_that_worked_and_ran_to_its_end_has_not_failed(error: BaseException | None) -> None:
    assert end_of(error) == ScriptEnd(0)


@pytest.mark.parametrize(
    ("reached", "words"),
    [("nothing", "without using Heliograph"), ("imported", "makes no FederatedLearning"),
     ("made", "never loops over its rounds()"), ("called", "takes no round of it")],
)  # fmt: skip
@pytest.mark.parametrize("error", [None, SystemExit(0)])
def test_a_script_that_ended_before_a_round_says_what_it_lacks(
    reached: Reached, words: str, error: BaseException | None
) -> None:
    end = end_of(error, reached)
    assert words in end.line
    assert (end.code, end.final, end.traceback) == (0, True, False)


@pytest.mark.parametrize("reached", ["nothing", "imported", "made", "called"])
@pytest.mark.parametrize(
    ("kind", "loop"), [("IncrementalLearningJob", ".rounds(x, y)"), ("PairTrainingJob", ".parts(x, y)")]
)
def test_a_script_of_another_kind_of_job_is_told_its_own_loop(reached: Reached, kind: Kind, loop: str) -> None:
    end = end_of(None, reached, kind=kind)
    assert "FederatedLearning" not in end.line and loop in end.line and end.final


def test_a_child_that_was_refused_a_loop_is_the_reason() -> None:
    assert end_of(None, "imported", in_child=True) == ScriptEnd(0, IN_A_CHILD, final=True)
    assert end_of(None, "worked", in_child=True) == ScriptEnd(0)


@pytest.mark.parametrize(
    ("error", "final"),
    [(SyntaxError("x"), True), (ModuleNotFoundError("x"), True), (NameError("x"), True), (ValueError("a typo"), True),
     (KeyError("x"), True), (ZeroDivisionError("x"), True), (AssertionError("x"), True),
     (NotImplementedError("x"), True), (json.JSONDecodeError("x", "", 0), True), (FileNotFoundError("x"), False),
     (ConnectionError("x"), False), (TimeoutError("x"), False), (MemoryError("x"), False),
     (RuntimeError("CUDA out of memory"), False), (KeyboardInterrupt(), False),
     (type("OfALibrary", (Exception,), {})("x"), False), (type("HubError", (ValueError, OSError), {})("x"), False)],
)  # fmt: skip
def test_an_error_before_the_first_round_is_final_where_the_script_is_wrong(error: BaseException, final: bool) -> None:
    before, within = end_of(error, "made"), end_of(error, "worked")
    assert (before.code, before.final, before.traceback) == (1, final, True)
    assert (within.code, within.final) == (1, False)  # it may concern that round's model alone
    assert before.line == f"{type(error).__name__}: {error}"


def test_what_heliograph_refuses_is_final_at_any_time_and_a_lost_broker_never() -> None:
    refused = Refused("no-evaluate", field="evaluate", expected="a function")
    assert end_of(refused, "worked") == ScriptEnd(1, f"error: {refused}", final=True)
    assert end_of(HeliographError("gone"), "made") == ScriptEnd(1, "error: gone")


def test_an_exit_with_a_message_or_a_number() -> None:
    assert end_of(SystemExit("no data"), "made") == ScriptEnd(1, "no data", final=True)
    assert end_of(SystemExit([1]), "worked") == ScriptEnd(1, "[1]")
    assert end_of(SystemExit(3), "made") == ScriptEnd(3, "", final=True)
    assert end_of(SystemExit(3), "worked") == ScriptEnd(3)
    assert end_of(SystemExit(True), "worked").code == 1


def _parsed(*words: str) -> Any:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, required=True)
    try:
        return parser.parse_args(words)
    except SystemExit as error:
        return error


@pytest.mark.parametrize(
    ("words", "wrong"),
    [((), "the following arguments are required: --lr"), (("--lr", "x"), "argument --lr: invalid float value: 'x'"),
     (("--lr", "1", "--other"), "unrecognized arguments: --other")],
)  # fmt: skip
def test_wrong_arguments_are_named_and_where_they_come_from(words: tuple[str, ...], wrong: str) -> None:
    end = end_of(_parsed(*words), "imported")
    assert end.line == (
        f"the script's arguments: {wrong}; a job has them as trainScriptArguments, heliograph run after --"
    )
    assert (end.code, end.final) == (2, True)


def test_a_batch_of_one_is_explained() -> None:
    error = ValueError("Expected more than 1 value per channel when training, got input size torch.Size([1, 32])")
    hint = "(a batch has one sample: leave such a batch out, as DataLoader's drop_last=True does)"
    assert end_of(error).line.endswith(hint)
