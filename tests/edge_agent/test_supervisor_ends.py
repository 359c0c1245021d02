"""Ends of a worker's script that the agent understands: failures that another start does not mend, and loops that
were left."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.bus.contract.payloads import InferTask
from heliograph.edge_agent.supervised_worker import REPEATED
from heliograph.edge_agent.supervisor import BACKOFF
from tests.edge_agent.supervised_node import NAME, Node, run_on_node, state, train_task

LONG = 1000.0


def test_a_final_failure_is_not_started_again() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)
        node.supervisor.take_state(NAME, state("failed", "SyntaxError: invalid syntax", final=True))
        handle.end()
        await asyncio.sleep(LONG)
        assert (node.worker.state, node.worker.detail, len(node.started)) == (
            "failed", "exit code 1: SyntaxError: invalid syntax", 1
        )  # fmt: skip
        assert node.worker.as_running().final
        [(_, level, line)] = node.logged
        assert (level, line) == (
            "warning",
            "ended with exit code 1: SyntaxError: invalid syntax; does not start again until it has another script or "
            "other arguments",
        )

    run_on_node(test)


def test_a_report_that_comes_after_the_process_has_ended_counts_as_well() -> None:
    async def test(node: Node) -> None:
        for report, then in ((state("failed", "no such module", final=True), "failed"), (state("left"), "finished")):
            starts = len(node.started)
            node.supervisor.launch(train_task())
            (await node.until_started(starts + 1)).end("exit code 0")
            await node.loop.wait_until_idle()
            assert node.worker.state == "backing-off"
            node.supervisor.take_state(NAME, report)
            await asyncio.sleep(LONG)
            assert (node.worker.state, len(node.started)) == (then, starts + 1)

    run_on_node(test)


def test_a_failure_that_repeats_itself_waits_for_the_next_round() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        for number in range(1, REPEATED + 1):
            handle = await node.until_started(number)
            node.supervisor.take_state(NAME, state("failed", "FileNotFoundError: x"))
            handle.end()
        await asyncio.sleep(LONG)
        assert (node.worker.state, len(node.started)) == ("failed", REPEATED)
        running = node.worker.as_running()
        assert (running.final, running.ended_in) == (False, 1)

    run_on_node(test)


@pytest.mark.parametrize("details", [("a", "b", "a", "b"), ("", None, "", None)], ids=["others", "killed between"])
def test_failures_that_differ_are_tried_again(details: tuple[str | None, ...]) -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        for number, detail in enumerate(details, 1):
            handle = await node.until_started(number)
            if detail is not None:
                node.supervisor.take_state(NAME, state("failed", detail))
            handle.end()
        await node.until_started(len(details) + 1)

    run_on_node(test)


def test_a_service_is_started_again_for_ever() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(InferTask(worker=NAME, job="job", job_uid="u", generation=1))
        for number in range(1, 8):
            handle = await node.until_started(number)
            node.supervisor.take_state(NAME, state("failed", "no model", final=True))
            handle.end()
        await node.until_started(8)

    run_on_node(test)


def test_a_script_that_left_its_loop_has_finished_in_that_round() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)
        node.supervisor.take_state(NAME, state("left", round=3))
        node.worker.task = train_task(round=4)  # assigned before the process ended
        handle.end("exit code 0")
        await asyncio.sleep(LONG)
        assert (node.worker.state, node.worker.detail) == ("finished", "the script left its loop in round 3")
        assert (node.worker.as_running().ended_in, len(node.started), node.logged) == (3, 1, [])

    run_on_node(test)


def test_a_failure_of_the_code_after_the_loop_is_said_and_costs_no_second_training() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)
        node.supervisor.take_state(NAME, state("left", round=3))
        node.supervisor.take_state(NAME, state("failed", "PermissionError: /results"))
        handle.end()
        await asyncio.sleep(LONG)
        assert len(node.started) == 1
        assert node.worker.detail == (
            "the script left its loop in round 3; the code after it ended with exit code 1: PermissionError: /results"
        )
        assert node.logged == [(NAME, "warning", node.worker.detail)]

    run_on_node(test)


def test_a_failure_after_the_jobs_end_is_said() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)
        stopping = asyncio.create_task(node.supervisor.stop(NAME, lambda worker: None))
        await asyncio.sleep(1)
        node.supervisor.take_state(NAME, state("failed", "a second loop"))
        handle.end()
        await stopping
        assert node.logged == [(NAME, "warning", "ended after its job with exit code 1: a second loop")]

    run_on_node(test)


def test_the_next_start_knows_nothing_of_the_one_before() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        first = await node.until_started(1)
        node.supervisor.take_state(NAME, state("failed", "flaky"))
        first.end()
        second = await node.until_started(2)
        assert second.at - first.at == pytest.approx(BACKOFF[0], abs=0.01)
        assert (node.worker.failed, node.worker.detail, node.worker.left_in) == (False, "", None)

    run_on_node(test)
