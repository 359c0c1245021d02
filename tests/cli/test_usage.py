"""Usage: readable help, mistakes on one line with exit code 2, and a start with few imports."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from heliograph import __version__

LATER = {
    "aiomqtt", "asyncio", "heliograph.bus.contract.topics", "heliograph.client", "msgpack", "nats", "numpy", "paho",
    "pydantic", "rich", "sqlite3", "ssl", "uvloop", "yaml",
}  # fmt: skip
"""Modules that a start must not import; only the commands that need them do."""


def _loaded(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return set(done.stdout.decode().splitlines()[-1].split())


def test_starting_loads_nothing_heavy() -> None:
    loaded = _loaded("import heliograph.cli.main, heliograph.cli.app")
    assert "heliograph.cli.resources.verbs" in loaded
    assert sorted(loaded & LATER) == []


def test_topics_loads_neither_a_broker_client_nor_rich() -> None:
    loaded = _loaded("from heliograph.cli.app import app; app(['topics'], standalone_mode=False)")
    assert "heliograph.bus.contract.topics" in loaded
    assert sorted(loaded & (LATER - {"heliograph.bus.contract.topics", "pydantic"})) == []


def test_help_names_every_command_and_fits_a_terminal(typed: Any) -> None:
    ran = typed("--help")
    assert (ran.code, ran.err) == (0, "")
    for command in ("apply", "get", "watch", "logs", "stop", "start", "delete", "topics", "agent", "coordinator",
                    "describe", "events", "worker", "doctor", "completion", "help"):  # fmt: skip
        assert f"\n  {command} " in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "Exit code: 0 succeeded" in typed("watch", "--help").out


def test_without_a_command_the_help_is_shown_with_exit_code_2(typed: Any) -> None:
    ran = typed()
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: heliograph ")


def test_the_version(typed: Any) -> None:
    assert typed("--version").out == f"heliograph {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("frobnicate", "no such command 'frobnicate'. Try 'heliograph --help'."),
        ("models list", "no such command in 'heliograph models'; type 'heliograph get models'."),
        ("pair-jobs delete one", "type 'heliograph delete pair-jobs/NAME'."),
        ("models frobnicate", "no such command 'frobnicate'. Try 'heliograph models --help'."),
        ("--frobnicate", "no such option: --frobnicate. Try 'heliograph --help'."),
        ("get", "missing argument 'KIND'. Try 'heliograph get --help'."),
        ("get jobs -o xml",
         "expected one of table, wide, name, json, yaml, jsonpath=TEMPLATE, got xml. Try 'heliograph get --help'."),
        ("get pods",
         "expected jobs or services or incremental-jobs or pair-jobs or models or datasets or algorithms or labels or "
         "edges or invitations or users or quarantines, got pods."),
        ("get jobs/one two", "expected each as KIND/NAME, or a kind and names, got two."),
        ("get jobs Bad_Name", "value for NAME: expected a DNS label"),
        ("get jobs/", "value for NAME: expected a DNS label"),
        ("get jobs -o jsonpath={.a", "value for --output: expected a JSONPath with a '}' for each '{', got {.a"),
        ("get jobs --sort-by [x", "value for --sort-by: expected a ']' for each '[', got [x"),
        ("get jobs --output-watch-events", "--output-watch-events: expected --watch with it"),
        ("get jobs/one -l a=b", "value for --selector: expected a kind alone, got jobs/one and a=b"),
        ("logs --since soon", "value for --since: expected a duration such as 10m or 1h30m, or a past time such as"),
        ("logs --no-follow", "value for --no-follow: expected --since or --tail with it"),
        ("events --since -1h", "value for --since: expected a duration"),
        ("events --types frob", "value for --types: expected all, or one of aggregation, "),
        ("events models/one", "expected a job, service or edge that the events name, got models/one"),
        ("events jobs", "expected jobs/NAME, got jobs"),
        ("worker models/one", "expected edges/NAME or jobs/NAME or services/NAME, got models/one"),
        ("describe pods", "expected jobs or services or"),
        ("doctor --check frob", "value for --check: expected one of broker, node, coordinator, edges, clock, logins, "
         "certificates, disk, "),
        ("completion tcsh", "'tcsh' is not one of 'bash', 'zsh', 'fish', 'powershell', 'pwsh'"),
        ("apply", "missing option '--file' / '-f'. Try 'heliograph apply --help'."),
        ("watch models/one", "expected jobs/NAME or services/NAME or incremental-jobs/NAME or pair-jobs/NAME, got "
         "models/one. Try 'heliograph watch --help'."),
        ("watch one", "expected jobs/NAME or services/NAME or incremental-jobs/NAME or pair-jobs/NAME, got one."),
        ("stop jobs", "expected jobs/NAME, got jobs. Try 'heliograph stop --help'."),
        ("start models/one", "expected jobs/NAME or services/NAME or incremental-jobs/NAME or pair-jobs/NAME, got "
         "models/one. Try 'heliograph start --help'."),
        ("get jobs -l ,", "value for --selector: expected requirements joined by ',', each one of: key, !key, "),
        ("delete nodes/edge-1", "expected jobs/NAME or services/NAME or incremental-jobs/NAME or pair-jobs/NAME or "
         "models/NAME or"),
        ("agent --name Bad_Name --cloud tls://a --node mqtts://a", "value for --name: expected a DNS label"),
        ("agent --name a --cloud tls://a --node mqtts://a --dataset x", "--dataset: expected NAME=VALUE, got x."),
        ("agent --name a --cloud tls://a --node mqtts://a --worker-nice 20", "--worker-nice: expected 0 to 19, got 2"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(typed: Any, words: str, message: str) -> None:
    ran = typed(*words.split())
    assert ran.code == 2, ran
    assert message in ran.error
    assert ran.out == ""


def test_ctrl_c_is_130_and_no_traceback(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("heliograph.cli.serve.main", interrupted)
    ran = typed("agent")
    assert (ran.code, ran.out, ran.err) == (130, "", "")


def test_a_timeout_without_a_text_is_a_sentence(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(words: object) -> int:
        raise TimeoutError

    monkeypatch.setattr("heliograph.cli.app.run", slow)
    assert typed("get", "jobs").err.startswith("error: nothing answered in time; ")
