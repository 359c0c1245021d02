"""``trace``: commands, their output and their exit codes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.event import Event, encode
from heliograph.bus.traces import layout
from heliograph.bus.traces.reading import TraceReader
from heliograph.bus.traces.recorded import Recorded
from heliograph.bus.traces.writing import TraceWriter
from heliograph.core.identity.credentials import UserCredentials
from heliograph.local.nats_server import Broker
from tests.patience import HANGS

METER = "event/telemetry/edge-1/meter"
SECOND = 1_000_000_000
BEGIN = 1_795_291_200 * SECOND
BLOB = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def event(number: int) -> bytes:
    return encode(Event(f"id-{number}", "edge-1/meter/life", "heliograph.telemetry.v1", {"n": number}), "json")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Write a trace of ten telemetry events at intervals of a second, a task and a blob."""
    path = tmp_path / "in.mcap"
    with TraceWriter(path, metadata={"recorded": "2026-11-21T20:00:00Z"}) as writer:
        for n in range(10):
            writer.write(Recorded(METER, event(n), BEGIN + n * SECOND, BEGIN))
        writer.write(Recorded("edge/edge-1/down/task", event(10), BEGIN + 10 * SECOND, BEGIN))
        writer.attach(BLOB, b"test")
    return path


def read(path: Path) -> list[Recorded]:
    with TraceReader(path) as reader:
        found = list(reader)
        assert reader.problems == []
    return found


@pytest.fixture
async def cloud(broker: Callable[..., Awaitable[Broker]]) -> Broker:
    started = await broker()
    async with connect(started.url("coordinator")) as bus:
        await bus.link.wait_up(HANGS)
        await bus.prepare()
    return started


async def test_a_recording_ends_at_ctrl_c_with_a_complete_file(
    alone: Any, cloud: Broker, tmp_path: Path, read_until: Any
) -> None:
    out = tmp_path / "out.mcap"
    server = cloud.url("operator")
    process = await alone.start("trace", "record", out, "--topics", "event/#", "--server", server)
    line = await read_until(process.stdout, "recording")
    assert line == f"recording heliograph/ event/# of {cloud.url()} into {out} until Ctrl-C"
    async with connect(cloud.url("coordinator")) as bus:
        await bus.link.wait_up(HANGS)
        for n in range(5):
            await bus.publish(METER, event(n))
    process.send_signal(signal.SIGINT)
    message, error = await process.communicate()
    assert (process.returncode, error) == (0, b"")
    assert message.decode().startswith(f"{out}: 5 messages, 0 blobs, ")
    assert message.decode().endswith("dropped 0\n")
    assert [each.body for each in read(out)] == [event(n) for n in range(5)]
    login = UserCredentials.read(cloud.login_file("operator"))
    assert login.key is not None
    for secret in (login.token, login.key.seed, cloud.password("operator"), "credentials="):
        assert secret.encode() not in out.read_bytes()
    again = await alone.apart("trace", "record", out, "--server", server)
    assert (again.code, again.error.startswith(f"{out}: expected a file that does not exist yet")) == (1, True)


async def test_a_recording_ends_by_itself(alone: Any, cloud: Broker, tmp_path: Path) -> None:
    ran = await alone.apart("trace", "record", tmp_path / "a.mcap", "--for", "0.1", "--server", cloud.url("operator"))
    assert (ran.code, ran.err) == (0, "")
    assert read(tmp_path / "a.mcap") == []


async def test_a_login_that_may_not_record_is_refused(alone: Any, cloud: Broker, tmp_path: Path) -> None:
    ran = await alone.apart("trace", "record", tmp_path / "a.mcap", "--server", cloud.url("worker"))
    assert ran.code == 6
    assert "expected a login that may read streams" in ran.error
    assert not list(tmp_path.glob("a.mcap*"))


async def test_replaying_reports_counts(alone: Any, cloud: Broker, trace: Path) -> None:
    ran = await alone.apart("trace", "replay", trace, "--to", cloud.url("coordinator"), "--speed", "max")
    assert (ran.code, ran.err) == (0, "")
    skipped, summary = ran.out.splitlines()
    assert skipped == "not replayed without --topics: edge/{edge}/down/task 1"
    assert summary.startswith(f"replayed 10 of 10 messages to {cloud.url()} in ")
    part = await alone.apart(
        "trace", "replay", trace, "--to", cloud.url("coordinator"), "--speed", "max", "--from", "2", "--until",
        "2026-11-21T20:00:04Z", "--rename", "edge=edge-9",
    )  # fmt: skip
    assert part.code == 0
    assert part.out.startswith("replayed 3 of 3 messages")
    async with connect(cloud.url("coordinator")) as bus:
        await bus.link.wait_up(HANGS)
        async with bus.consume("event/telemetry/edge-9/#") as messages, asyncio.timeout(HANGS):
            found = [json.loads((await anext(messages)).body) for _ in range(3)]
    assert [(each["data"]["n"], each["source"], each["replayed"]) for each in found] == [
        (n, "edge-9/meter/life", True) for n in (2, 3, 4)
    ]


async def test_a_loop_goes_on_until_ctrl_c(alone: Any, cloud: Broker, trace: Path) -> None:
    async with connect(cloud.url("coordinator")) as bus:
        await bus.link.wait_up(HANGS)
        async with bus.subscribe("event/telemetry/#") as messages, asyncio.timeout(HANGS):
            words = ("trace", "replay", trace, "--speed", "max", "--loop")
            process = await alone.start(*words, "--to", cloud.url("coordinator"))
            for _ in range(25):
                await anext(messages)
            process.send_signal(signal.SIGTERM)
            message, error = await process.communicate()
    assert (process.returncode, error) == (0, b"")
    assert b"replayed " in message


async def test_each_reason_why_a_broker_takes_nothing_has_its_exit_code(alone: Any, cloud: Broker, trace: Path) -> None:
    ran = await alone.apart("trace", "replay", trace, "--to", cloud.url("operator"), "--speed", "max")
    assert ran.code == 1
    assert "replayed 0 of 10 messages" in ran.err and "this login may not publish there (10)" in ran.err
    ran = await alone.apart("trace", "replay", trace, "--to", "nats://127.0.0.1:1")
    assert ran.code == 5
    assert ran.error.startswith("cannot reach nats://127.0.0.1:1: nothing listens")


async def test_unknown_topics_need_raw(alone: Any, cloud: Broker, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with TraceWriter(path) as writer:
        writer.write(Recorded("foo/bar", b"x", BEGIN, BEGIN))
        writer.write(Recorded(METER, event(1), BEGIN, BEGIN))
    words = ("trace", "replay", path, "--to", cloud.url("coordinator"), "--speed", "max")
    ran = await alone.apart(*words)
    assert ran.code == 1
    assert "replayed 1 of 2 messages" in ran.error
    assert ran.error.endswith("undeclared topics: foo/bar 1; replay them with --raw")
    assert (await alone.apart(*words, "--raw")).code == 0


class TestFiles:
    def test_info(self, typed: Any, trace: Path) -> None:
        ran = typed("trace", "info", trace)
        assert (ran.code, ran.err) == (0, "")
        assert "11 of 11 messages read, from 2026-11-21T20:00:00.000000Z, over 10.000 s" in ran.out
        assert f"{METER}  json      10" in ran.out
        found = json.loads(typed("trace", "info", trace, "-o", "json").out)
        assert (found["messages"], found["read"], found["problems"], found["version"]) == (11, 11, [], 2)
        assert found["attachments"] == [{"name": BLOB, "size": 4}]

    def test_a_cut_file_is_read_and_reported(self, typed: Any, trace: Path) -> None:
        trace.write_bytes(trace.read_bytes()[:-200])
        ran = typed("trace", "info", trace)
        assert ran.code == 1
        assert "11 of 11 messages read" in ran.out
        assert "unreadable: " in ran.out
        ran = typed("trace", "cat", trace)
        assert (ran.code, len(ran.out.splitlines())) == (1, 11)
        assert "it was read from its start" in ran.error

    def test_cat_filters_and_decodes(self, typed: Any, trace: Path) -> None:
        ran = typed("trace", "cat", trace, "--topics", "event/telemetry/#", "--from", "8")
        assert ran.code == 0
        found = [json.loads(line) for line in ran.out.splitlines()]
        assert [each["message"]["data"]["n"] for each in found] == [8, 9]

    def test_export_and_import_give_the_same_trace(self, typed: Any, trace: Path, tmp_path: Path) -> None:
        assert typed("trace", "export", trace, tmp_path / "a.jsonl").code == 0
        ran = typed("trace", "import", tmp_path / "a.jsonl", tmp_path / "b.mcap")
        assert (ran.code, ran.out) == (0, f"{tmp_path / 'b.mcap'}: 11 messages, 1 attachments\n")
        assert (tmp_path / "b.mcap").read_bytes() == trace.read_bytes()
        piped = typed("trace", "import", "-", tmp_path / "c.mcap", stdin=typed("trace", "cat", trace).out)
        assert piped.code == 0
        assert read(tmp_path / "c.mcap") == read(trace)

    def test_filter_keeps_matching_messages(self, typed: Any, trace: Path, tmp_path: Path) -> None:
        ran = typed("trace", "filter", trace, tmp_path / "b.mcap", "--topics", "edge/+/down/task")
        assert (ran.code, ran.out) == (0, f"{tmp_path / 'b.mcap'}: 1 of 11 messages\n")
        assert [each.topic for each in read(tmp_path / "b.mcap")] == ["edge/edge-1/down/task"]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("nonsense", "line 2: expected a JSON document"),
            ('{"topic": "a", "log_time": -1, "body": ""}', "line 2 field log_time: expected nanoseconds"),
            ('{"topic": "a", "log_time": 1, "body": "%"}', "line 2 field body: expected base64"),
            ('{"topic": "a", "log_time": 1, "bodi": ""}', "line 2 field bodi: expected one of"),
            ('{"topic": "\\ud800", "log_time": 1, "body": ""}', "line 2 field topic"),
            ('{"topic": "a", "log_time": 1, "body": "e30=", "message": {"a": 1}}', "remove its body"),
            ('{"attachment": "../x", "data": ""}', "line 2 field attachment"),
        ],
    )
    def test_invalid_lines_leave_no_file(self, typed: Any, tmp_path: Path, line: str, message: str) -> None:
        ran = typed("trace", "import", "-", tmp_path / "b.mcap", stdin='{"trace": {}}\n' + line + "\n")
        assert ran.code == 1
        assert message in ran.error
        assert list(tmp_path.iterdir()) == []

    def test_a_newer_trace_is_refused(self, typed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(layout, "VERSION", 9)
        with TraceWriter(tmp_path / "a.mcap"):
            pass
        monkeypatch.undo()
        for words in (("info",), ("cat",), ("replay", "--to", "nats://127.0.0.1:1")):
            ran = typed("trace", words[0], tmp_path / "a.mcap", *words[1:])
            assert ran.code == 1
            assert "pip install -U heliograph" in ran.error

    @pytest.mark.parametrize(
        ("words", "code", "message"),
        [
            (["info", "nowhere.mcap"], 1, "No such file"),
            (["replay", "IN", "--speed", "fast"], 1, "--speed: expected"),
            (["replay", "IN", "--rename", "colour=red"], 1, "--rename: expected"),
            (["replay", "IN", "--topics", "a/#/b"], 1, "--topics: expected"),
            (["replay", "IN", "--from", "noon"], 1, "--from: expected"),
            (["replay", "IN", "--from", "9", "--until", "3"], 1, "--until: expected"),
            (["replay", "IN", "--to", "http://x"], 1, "--to: expected"),
            (["record", "IN", "--with-blobs", "--server", "mqtt://127.0.0.1:1"], 2, "expected a nats:// server"),
            (["replay"], 2, "missing argument"),
            (["cut"], 2, "no such command"),
        ],
    )
    def test_the_error_names_the_mistake(
        self, typed: Any, trace: Path, words: list[str], code: int, message: str
    ) -> None:
        ran = typed("trace", *(str(trace) if word == "IN" else word for word in words))
        assert ran.code == code
        assert message in ran.error


def test_other_commands_do_not_import_the_library() -> None:
    code = "import sys, heliograph.cli.app; print(*(x for x in sys.modules if 'mcap' in x or '.traces' in x))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
