"""``make bench`` through its command line, with the smallest benchmark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import single_run
from benchmarks.__main__ import main
from benchmarks.catalog import BENCHMARKS
from benchmarks.declaration import Benchmark, Metric, Samples
from benchmarks.processes import tree
from tests.patience import HANGS


def test_a_run_is_reported_and_kept(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "benchmarks", "command-help", "--repeats", "2", "--no-assert", "--json"]
    argv += ["--out", str(tmp_path / "out"), "--history", str(tmp_path / "history.jsonl"), "--keep"]
    ran = subprocess.run(argv, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    figure = document["figures"]["command-help/run"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert (figure["count"], figure["unit"], figure["verdict"]) == (2, "ms", "new")
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == document
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".md", ".html", ".svg", ".log"}
    [line] = (tmp_path / "history.jsonl").read_text().splitlines()
    assert json.loads(line)["figures"].keys() == {"command-help/run"}
    assert str(Path.home()) not in line and os.uname().nodename not in line


@pytest.mark.parametrize(("words", "message"), [
    (["ecko"], "no benchmark or group is named ecko"),
    (["--repeats", "0", "sum"], "expected 1 or more, got 0"),
    (["--compare", "nope", "sum"], "no run of that revision"),
])  # fmt: skip
def test_bad_arguments_are_refused_with_a_reason(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_broken_history_stops_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("{}\n")
    with pytest.raises(SystemExit):
        main(["sum", "--history", str(path), "--out", str(tmp_path / "out")])
    assert "history.jsonl, line 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("options", "target", "code"), [([], 1, 1), ([], 3, 0), (["--no-assert"], 1, 0)])
def test_a_missed_target_is_exit_code_one(
    options: list[str], target: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_tiny_benchmark(monkeypatch, target)
    monkeypatch.setattr("benchmarks.__main__.in_fresh_process", lambda each, log: each.measure())
    words = ["tiny", "--out", str(tmp_path), "--history", str(tmp_path / "h.jsonl"), *options]
    assert main(words) == code


def declare_tiny_benchmark(monkeypatch: pytest.MonkeyPatch, target: float | None, measure: object = None) -> None:
    def two_ms() -> Samples:
        return {"lap": [2.0]}

    monkeypatch.setitem(BENCHMARKS, "tiny", Benchmark("tiny", "tiny", measure or two_ms,  # type: ignore[arg-type]
                                                      (Metric("lap", "a lap", "ms", target),)))  # fmt: skip


def test_a_figure_that_has_got_worse_is_exit_code_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([1.0, 1.0, 1.0, 2.0])
    declare_tiny_benchmark(monkeypatch, None, lambda: {"lap": [next(values)]})
    monkeypatch.setattr("benchmarks.__main__.in_fresh_process", lambda each, log: each.measure())
    words = ["tiny", "--repeats", "1", "--out", str(tmp_path), "--history", str(tmp_path / "h.jsonl")]
    assert [main([*words, "--keep"]) for _ in range(4)] == [0, 0, 0, 1]


ORPHANS = """
import subprocess, sys, time
from benchmarks import single_run
from benchmarks.catalog import BENCHMARKS
from benchmarks.declaration import Benchmark

def measure():
    # a process that outlives its parent, as servers do
    subprocess.run(["sh", "-c", "sleep 1000 & echo $! >&2"])
    {then}

BENCHMARKS["tiny"] = Benchmark("tiny", "tiny", measure, ())
sys.exit(single_run.main("tiny", "{seconds}"))
"""


@pytest.mark.parametrize(("then", "seconds", "code", "last_line"), [
    ("return {'lap': [1.0]}", 9, 0, '{"lap": [1.0]}'),
    ("raise ValueError('no luck')", 9, 1, "ValueError: no luck"),
    ("time.sleep(60)", 1, 1, "TimeoutError: took more than 1 s"),
])  # fmt: skip
def test_one_run_leaves_no_process(then: str, seconds: float, code: int, last_line: str) -> None:
    script = ORPHANS.replace("{then}", then).replace("{seconds}", str(seconds))
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANGS)
    assert ran.returncode == code, ran.stderr
    assert ran.stdout.splitlines()[-1] == last_line
    left = int(ran.stderr.splitlines()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(left, 0)


def test_an_interrupted_run_leaves_no_process_either() -> None:
    script = ORPHANS.replace("{then}", "time.sleep(60)").replace("{seconds}", "60")
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    left = int(child.stderr.readline())
    assert left in tree(child.pid)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=10)
    assert "ended from outside" in out
    with pytest.raises(ProcessLookupError):
        os.kill(left, 0)


def test_the_catalog_is_consistent() -> None:
    assert single_run.BENCHMARKS is BENCHMARKS
    for each in BENCHMARKS.values():
        labels = [metric.label for metric in each.metrics]
        assert labels and len(set(labels)) == len(labels), each.name
        assert each.peer == (each.prepare is not None), each.name
        assert all(len(metric.title) <= 40 for metric in each.metrics), each.name
