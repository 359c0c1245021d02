"""A node's workers with any launcher: starts, restarts with back-off, and reported states."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import BigModelTask, InferTask
from heliograph.edge_agent.supervisor import BACKOFF, STEADY_AFTER
from tests.edge_agent.supervised_node import NAME, Node, run_on_node, state, train_task


def _waits(lasted: Sequence[float]) -> list[float]:
    """Return the seconds between the end of each run and the next start, for runs of these durations."""

    async def test(node: Node) -> list[float]:
        node.supervisor.launch(train_task())
        found = []
        for number, seconds in enumerate(lasted, 1):
            handle = await node.until_started(number)
            await asyncio.sleep(seconds)
            ended = node.loop.time()
            handle.end()
            found.append((await node.until_started(number + 1)).at - ended)
        return found

    return run_on_node(test)


def test_a_worker_is_launched_with_the_settings_to_find_its_broker() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(InferTask(worker=NAME, job="job", job_uid="u", generation=1))
        handle = await node.until_started(1)
        request = handle.request
        assert (request.worker, request.role, request.secret) == (NAME, "infer", node.worker.secret)
        assert request.variables("/mine", "/theirs", ["/its code"]) == {
            "HELIOGRAPH_EDGE": "edge-1",
            "HELIOGRAPH_WORKER": NAME,
            "HELIOGRAPH_DIRECTORY": "/mine",
            "HELIOGRAPH_MODELS": "/theirs",
            "HELIOGRAPH_CODE": '["/its code"]',
        }
        assert (request.models, request.code) == (Path("/models"), (Path("/code"),))
        assert node.worker.state == "starting"

    run_on_node(test)


def test_the_back_off_grows_to_its_longest_and_stays_there() -> None:
    assert _waits([0.1] * 8) == pytest.approx([*BACKOFF, BACKOFF[-1], BACKOFF[-1]])


@given(st.lists(st.one_of(st.floats(0, STEADY_AFTER - 1), st.floats(STEADY_AFTER + 1, 10 * STEADY_AFTER)), max_size=12))
@settings(max_examples=30, deadline=None)
def test_a_run_that_was_steady_begins_the_back_off_anew(lasted: list[float]) -> None:
    expected, failed = [], 0
    for seconds in lasted:
        failed = 1 if seconds > STEADY_AFTER else failed + 1
        expected.append(BACKOFF[min(failed, len(BACKOFF)) - 1])
    assert _waits(lasted) == pytest.approx(expected)


def test_a_worker_that_reached_a_later_round_begins_the_back_off_anew() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        for number in (1, 2, 3):
            (await node.until_started(number)).end()
        handle = await node.until_started(4)
        assert node.worker.restarts == 3
        node.worker.task = train_task(round=2)
        handle.end()
        again = await node.until_started(5)
        assert (node.worker.restarts, again.at - handle.at) == (1, pytest.approx(BACKOFF[0]))

    run_on_node(test)


def test_each_start_has_a_secret_of_its_own() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        for number in (1, 2, 3):
            handle = await node.until_started(number)
            assert handle.request.secret == node.worker.secret
            handle.end()
        first, second, third = (each.request.secret for each in node.started)
        assert len({first, second, third}) == 3

    run_on_node(test)


def test_its_end_and_its_last_line_are_logged() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)
        assert handle.lines is not None
        handle.lines.say("loading\nout of cheese\n ")
        handle.end("exit code 3")
        await node.until_started(2)
        assert node.logged == [
            (NAME, "info", "loading"),
            (NAME, "info", "out of cheese"),
            (NAME, "info", " "),
            (NAME, "warning", "ended with exit code 3: out of cheese; starts again in 0.5 s"),
        ]

    run_on_node(test)


def test_a_run_that_printed_nothing_is_not_blamed_for_the_lines_of_the_one_before() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        first = await node.until_started(1)
        assert first.lines is not None
        first.lines.say("boom")
        first.end()
        (await node.until_started(2)).end("exit code -9")
        await node.loop.wait_until_idle()
        assert (node.worker.state, node.worker.detail) == ("backing-off", "exit code -9: no output")

    run_on_node(test)


def test_a_reported_failure_goes_before_the_last_line() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)
        assert handle.lines is not None
        node.supervisor.take_state(NAME, state("hello"))
        node.supervisor.take_state(NAME, state("failed", "ValueError: no data"))
        handle.lines.say("  at line 3")
        handle.end()
        await node.loop.wait_until_idle()
        assert node.worker.detail == "exit code 1: ValueError: no data"
        await node.until_started(2)
        assert node.worker.detail == ""

    run_on_node(test)


def test_a_worker_whose_log_goes_elsewhere_is_watched_all_the_same() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        (await node.until_started(1)).end("evicted")
        await node.loop.wait_until_idle()
        assert node.worker.detail == "evicted: no output"
        await node.until_started(2)

    run_on_node(test, silent=True)


def test_a_launch_that_fails_is_tried_again_with_back_off() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        await asyncio.sleep(0.1)
        assert (node.worker.state, node.worker.detail) == ("backing-off", "not started: no space left")
        await asyncio.sleep(8)
        node.failing = ""
        handle = await node.until_started(1)
        assert [later - before for before, later in pairwise(node.attempts)] == list(BACKOFF[:4])
        await node.loop.wait_until_idle()
        assert (node.worker.state, node.worker.detail, node.worker.handle) == ("starting", "", handle)

    run_on_node(test, failing="no space left")


def test_a_hello_makes_it_ready_and_lets_its_task_be_assigned_again() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        await node.until_started(1)
        node.worker.assigned = train_task()
        before = node.changes
        node.supervisor.take_state(NAME, state("hello"))
        node.supervisor.take_state("another", state("hello"))
        assert (node.worker.state, node.worker.assigned, node.changes) == ("ready", None, before + 1)
        seen = node.worker.as_running()
        assert (seen.worker, seen.job_uid, seen.state, seen.task) == (NAME, "u", "ready", train_task())

    run_on_node(test)


def test_the_hello_of_a_process_that_has_ended_makes_nothing_ready() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        (await node.until_started(1)).end()
        await node.loop.wait_until_idle()
        node.supervisor.take_state(NAME, state("hello"))
        assert node.worker.state == "backing-off"

    run_on_node(test)


def test_assignments_are_forgotten_for_all() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        await node.until_started(1)
        node.worker.assigned = train_task()
        node.supervisor.forget_assignments()
        assert node.worker.assigned is None

    run_on_node(test)


def test_services_with_a_ready_edge_worker_are_served() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(InferTask(worker="a", job="street", job_uid="u", generation=1))
        node.supervisor.launch(InferTask(worker="b", job="park", job_uid="u", generation=1))
        node.supervisor.launch(BigModelTask(worker="c", job="deep", job_uid="u", generation=1))
        node.supervisor.launch(train_task(worker="d", role="train", job="job"))
        await node.until_started(4)
        for name in ("a", "c", "d"):
            node.supervisor.take_state(name, state("hello"))
        assert node.supervisor.services() == {"street"}

    run_on_node(test)
