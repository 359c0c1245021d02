"""Scripts that leave their loop early, fail in it or after it, loop twice, or never loop."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from heliograph.workers import train
from tests.field.scripted_worker import EDGE, Job, Ran

Script = Callable[..., Ran]
LOOP = """
    import numpy as np
    from heliograph import FederatedLearning
    w = {"w": np.zeros(3, np.float32)}
    fl = FederatedLearning(w)
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return ``script(text)``, which runs a script in a job of three rounds; ``LOOP`` goes before the text."""
    (tmp_path / "project").mkdir()
    (tmp_path / "worker").mkdir()
    monkeypatch.chdir(tmp_path / "worker")

    def run(text: str, **job: int) -> Ran:
        file = tmp_path / "project" / "train.py"
        file.write_text(textwrap.dedent(LOOP) + textwrap.dedent(text))
        return Job(tmp_path / "worker", **job).run(file)

    return run


@pytest.fixture
def brought(project: Path, tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return ``brought(name)``, which runs a script of people's in a job of three rounds."""
    (tmp_path / "worker").mkdir()
    monkeypatch.chdir(tmp_path / "worker")
    monkeypatch.setenv("DIGITS", str(digits))

    def run(name: str, **job: int) -> Ran:
        return Job(tmp_path / "worker", **job).run(project / name)

    return run


def test_row_2_stopped_early_when_it_was_good_enough(brought: Script, capsys: pytest.CaptureFixture[str]) -> None:
    ran = brought("early.py")
    assert "good enough 1" in capsys.readouterr().out
    assert ran.rounds == [(0, False), (1, True)]  # the round's update, with the request to stop
    assert ran.states == [("left", "", False, 1)]
    assert ran.code == 0


@pytest.mark.parametrize(
    "text",
    [
        """
        for r in fl.rounds():
            w["w"] += 1
            if r.number == 2: break
        """,
        """
        def train():
            for r in fl.rounds():
                w["w"] += 1
                if r.number == 2: return
        train()
        """,
        """
        with open("log.txt", "a") as log:
            for r in fl.rounds():
                try:
                    w["w"] += 1
                    if r.number == 2: break
                finally:
                    log.write("round")
        """,
        """
        rounds = fl.rounds()  # an iterator with a name is still there when the script ends
        def keeps(): return rounds
        for r in rounds:
            w["w"] += 1
            if r == 1: break
        """,
        """
        import sys
        for r in fl.rounds():
            w["w"] += 1
            if r == 1: sys.exit()
        """,
        """
        def bar(rounds):  # as tqdm does
            for each in rounds: yield each
        for i, r in enumerate(bar(fl.rounds())):
            w["w"] += 1
            if i == 1: break
        """,
        """
        for _, r in zip(range(2), fl.rounds()):
            w["w"] += 1
        """,
        """
        import threading
        def train():
            for r in fl.rounds():
                w["w"] += 1
                if r == 1: break
        threading.Thread(target=train).start()
        import time
        while not fl.round: time.sleep(0.001)
        """,
    ],
    ids=["break", "return", "with", "named", "exit", "wrapped", "zip", "thread"],
)
def test_a_loop_that_is_left_sends_the_rounds_update_and_asks_to_stop(script: Script, text: str) -> None:
    ran = script(text)
    assert (ran.rounds, ran.code, ran.failure) == ([(0, False), (1, False), (2, True)], 0, "")
    assert ran.states == [("left", "", False, 2)]


@pytest.mark.parametrize(
    "text",
    [
        """
        for r in fl.rounds():
            if r.number == 2: raise KeyError("x")
        """,
        """
        def step(r):
            if r.number == 2: raise KeyError("x")
        def main():
            for r in fl.rounds():
                step(r)
        main()
        """,
        """
        def bar(rounds):
            for each in rounds: yield each
        for i, r in enumerate(bar(fl.rounds())):
            try:
                if i == 1: {}["x"]
            finally:
                w["w"] += 1
        """,
        """
        for r in fl.rounds():
            try:
                if r.number == 2: {}["x"]
            except KeyError as error:
                w["w"] += 1; raise
        """,
        """
        for r in fl.rounds():
            with np.errstate(all="ignore"), open("log.txt", "a") as log:
                if r.number == 2: {}["x"]
        """,
        """
        try:
            for r in fl.rounds():
                if r.number == 2: raise KeyError("x")
        except KeyError:
            print("given up"); raise
        """,
    ],
    ids=["raised", "below", "wrapped", "handled", "with", "raised again"],
)
def test_a_body_that_raises_sends_nothing(script: Script, text: str) -> None:
    ran = script(text)
    assert (ran.rounds, ran.code) == ([(0, False), (1, False)], 1)
    assert ran.states == [("failed", "KeyError: 'x'", False, None)]


@pytest.mark.parametrize(
    "text",
    [
        """
        for r in fl.rounds():
            if r.number == 2: break
        open("no/such/folder")
        """,
        """
        def train():
            for r in fl.rounds():
                if r.number == 2: return
        def main():
            train(); open("no/such/folder")
        main()
        """,
    ],
    ids=["at the same level", "in the caller"],
)
def test_an_error_of_the_code_after_the_loop_costs_the_update_nothing(script: Script, text: str) -> None:
    ran = script(text)
    assert (ran.rounds, ran.code) == ([(0, False), (1, False), (2, True)], 1)
    assert [state for state, *_ in ran.states] == ["left", "failed"]
    assert "no/such/folder" in ran.failure


def test_a_request_to_stop_does_not_wait_for_long_code_after_the_loop(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "LEFT_AFTER", 0.0)
    ran = script(
        """
        for r in fl.rounds():
            w["w"] += 1
            break
        import time
        from pathlib import Path
        while not Path("stopped").exists(): time.sleep(0.001)
        w["w"] += 100
        """
    )
    assert ran.rounds == [(0, False), (1, True)]
    assert ran.updates[-1].weights.inline is not None
    assert np.frombuffer(ran.updates[-1].weights.inline[-12:], "<f4").tolist() == [1, 1, 1]


def test_row_4_trained_two_models_in_two_loops(brought: Script, capsys: pytest.CaptureFixture[str]) -> None:
    ran = brought("two.py")
    assert ran.rounds == [(0, False), (1, False), (2, False), (3, False)]
    assert ran.failure.startswith("error: field rounds: expected one loop over rounds() in a script, got a second one")
    assert "done" not in capsys.readouterr().out


def test_a_loop_after_one_that_was_left_is_refused_too(script: Script) -> None:
    ran = script("for r in fl.rounds(): break\nfor r in FederatedLearning(w).rounds(): pass")
    assert ran.rounds == [(0, False), (1, True)]
    assert "expected one loop over rounds()" in ran.failure


def test_a_loop_whose_job_has_ended_runs_the_code_after_it(script: Script) -> None:
    ran = script("for r in fl.rounds(): pass\nopen('result.txt', 'w').write(f'{fl.edge} {fl.round}')")
    assert (ran.rounds[-1], ran.states, ran.code) == ((3, False), [("left", "", False, None)], 0)
    assert Path("result.txt").read_text() == f"{EDGE} 3"


@pytest.mark.parametrize(
    ("name", "words"),
    [("plain.py", "without using Heliograph"), ("notused.py", "never loops over its rounds()"),
     ("typo.py", "ValueError: a typo")],
)  # fmt: skip
def test_row_2_ended_before_a_round(brought: Script, name: str, words: str) -> None:
    ran = brought(name)
    [(state, detail, final, _)] = ran.states
    assert (state, final, ran.updates) == ("failed", True, [])
    assert words in detail


@pytest.mark.parametrize(
    ("text", "words"),
    [("fl.rounds()", "takes no round of it"), ("for _ in zip(range(0), fl.rounds()): pass", "takes no round of it"),
     ("import no_such_module", "ModuleNotFoundError"), ("def :", "SyntaxError"),
     ("raise SystemExit('no data')", "no data"),
     ("FederatedLearning(object())\nfor r in FederatedLearning(object()).rounds(): pass", "expected a torch.nn.Module"),
     ("for r in FederatedLearning(w, num_samples=0).rounds(): pass", f"trains on on edge {EDGE}, 1 or more, got 0")],
)  # fmt: skip
def test_other_ends_before_a_round(script: Script, text: str, words: str) -> None:
    ran = script(text)
    [(state, detail, final, _)] = ran.states
    assert (state, final, ran.updates) == ("failed", True, [])
    assert words in detail


def test_row_3_a_missing_evaluate_is_final(script: Script) -> None:
    ran = script("for r in fl.rounds(): pass", evaluates=True)
    assert ran.states[-1][2]
    assert "evaluate=accuracy" in ran.failure


@pytest.mark.parametrize("samples", [0, 1])
def test_row_6_an_edge_of_no_sample_or_one_is_named(
    script: Script, samples: int, capsys: pytest.CaptureFixture[str]
) -> None:
    if samples:
        with pytest.warns(UserWarning, match=f"edge {EDGE} trains on 1 sample: .* give this edge more data"):
            assert script("for r in fl.rounds(): pass", samples=samples).code == 0
    else:
        ran = script("for r in fl.rounds(): pass", samples=samples)
        assert f"on edge {EDGE}, 1 or more, got 0" in ran.failure
        assert ran.states[-1][2]


@pytest.mark.parametrize("kind", ["nan", "inf", "none", "text", "dict", "tuple", "array", "matrix", "bool", "list"])
@pytest.mark.filterwarnings("ignore:report")
def test_row_6_reported_a_metric_that_is_no_number(
    brought: Script, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUNT_METRIC", kind)
    ran = brought("metrics.py")
    assert (ran.rounds[-1], ran.failure) == ((3, False), "")
    assert ran.updates[-1].metrics == {"bool": {"loss": 1.0}, "list": {"loss": 2.0}}.get(kind, {})


@pytest.mark.parametrize("kind", ["eval-nan", "eval-tuple", "eval-none", "eval-dict"])
@pytest.mark.filterwarnings("ignore:evaluate")
def test_row_3_an_evaluation_that_is_no_number_costs_the_job_nothing(
    brought: Script, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUNT_METRIC", kind)
    ran = brought("metrics.py", evaluates=True)
    assert [each.metrics for each in ran.evaluations] == [{"f1": 0.5} if kind == "eval-dict" else {}] * 3
    assert ran.failure == ""


def test_row_6_reported_the_history_of_keras(brought: Script) -> None:
    ran = brought("history.py")
    assert set(ran.updates[-1].metrics) == {"loss", "accuracy"}
    assert ran.updates[-1].metrics["loss"] == 0.5
