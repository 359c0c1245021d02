"""Stopping a node's workers with any launcher: with grace for their work, or all at once."""

from __future__ import annotations

import asyncio

import pytest

from heliograph.bus.contract.payloads import WorkerState
from heliograph.edge_agent.supervised_worker import Worker
from heliograph.edge_agent.supervisor import AFTER_LOOP, GRACE
from tests.edge_agent.supervised_node import NAME, Node, run_on_node, state, train_task


def _nothing(worker: Worker) -> None:
    return None


def test_a_worker_that_finishes_by_itself_is_not_terminated() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)
        finished: list[Worker] = []

        def finish(worker: Worker) -> None:
            assert worker.state == "stopping"
            finished.append(worker)
            node.loop.call_later(GRACE - 1, handle.end, "exit code 0")

        await node.supervisor.stop(NAME, finish)
        assert len(finished) == 1
        assert (node.supervisor.workers, handle.asked, node.loop.time()) == ({}, [], pytest.approx(GRACE - 1, abs=0.1))
        assert node.swept == [set()]
        await asyncio.sleep(100)
        assert len(node.started) == 1

    run_on_node(test)


@pytest.mark.parametrize(("stubborn", "asked", "after"),
                         [(False, ["terminate"], GRACE), (True, ["terminate", "kill"], 2 * GRACE)])  # fmt: skip
def test_a_worker_that_does_not_finish_is_terminated_and_then_killed(
    stubborn: bool, asked: list[str], after: float
) -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)
        began = node.loop.time()
        await node.supervisor.stop(NAME, _nothing)
        assert (handle.asked, node.loop.time() - began) == (asked, pytest.approx(after))
        assert node.supervisor.workers == {}

    run_on_node(test, stubborn=stubborn)


def test_the_code_after_a_loop_is_waited_for_and_this_is_said() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)

        def finish(worker: Worker) -> None:
            node.loop.call_later(0.1, node.supervisor.take_state, NAME, state("left"))
            node.loop.call_later(AFTER_LOOP - 1, handle.end, "exit code 0")

        await node.supervisor.stop(NAME, finish)
        assert (handle.asked, node.supervisor.workers) == ([], {})
        said = "its job has ended and its script runs on: waits up to 600 s for the code after the loop"
        assert node.logged == [(NAME, "info", said)]

    run_on_node(test)


@pytest.mark.parametrize("hurried", [False, True])
def test_but_not_for_ever_and_not_if_the_next_job_needs_the_name(hurried: bool) -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)
        node.supervisor.take_state(NAME, state("left"))
        began = node.loop.time()
        if hurried:
            node.loop.call_later(20, node.supervisor.hurry, NAME)
        await node.supervisor.stop(NAME, _nothing)
        assert (handle.asked, node.loop.time() - began) == (["terminate"], pytest.approx(20 if hurried else AFTER_LOOP))
        node.supervisor.hurry("nobody")

    run_on_node(test)


def test_closing_does_not_wait_for_the_code_after_a_loop() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)
        node.supervisor.take_state(NAME, state("left"))
        began = node.loop.time()
        await node.supervisor.close()
        assert (handle.asked, node.loop.time()) == (["terminate"], began)

    run_on_node(test)


@pytest.mark.parametrize("report", [state("failed", "x", final=True), state("left", round=1)])
def test_a_worker_that_has_ended_is_gone_at_once_too(report: WorkerState) -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        handle = await node.until_started(1)
        node.supervisor.take_state(NAME, report)
        handle.end("exit code 0")
        await node.loop.wait_until_idle()
        began = node.loop.time()
        await node.supervisor.stop(NAME, _nothing)
        assert (node.supervisor.workers, node.loop.time()) == ({}, began)

    run_on_node(test)


def test_a_worker_that_waits_for_its_next_start_is_gone_at_once() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        (await node.until_started(1)).end()
        await node.loop.wait_until_idle()
        assert node.worker.state == "backing-off"
        began = node.loop.time()
        await node.supervisor.stop(NAME, _nothing)
        assert (node.supervisor.workers, node.loop.time()) == ({}, began)
        await asyncio.sleep(100)
        assert len(node.started) == 1

    run_on_node(test)


def test_a_worker_that_is_stopped_while_it_is_launched_does_not_stay_behind() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        await asyncio.sleep(0.5)
        await node.supervisor.stop(NAME, _nothing)
        assert node.supervisor.workers == {}
        (handle,) = node.started
        assert handle.asked == ["terminate"]

    run_on_node(test, takes=1.0)


def test_a_launch_that_hangs_is_given_up_when_its_worker_is_stopped() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        await asyncio.sleep(0.5)
        await node.supervisor.stop(NAME, _nothing)
        assert (node.supervisor.workers, node.started) == ({}, [])

    run_on_node(test, takes=1e9)


def test_stopping_twice_spares_the_next_worker_of_that_name() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        await node.until_started(1)
        stopping = asyncio.create_task(node.supervisor.stop(NAME, _nothing))
        await asyncio.sleep(1)
        await node.supervisor.stop(NAME, _nothing)  # returns at once, because the worker is stopping
        assert node.worker.state == "stopping"
        await stopping
        node.supervisor.launch(train_task(job_uid="v"))
        await asyncio.sleep(100)
        assert node.worker.task.job_uid == "v"
        await node.supervisor.stop("nobody", _nothing)

    run_on_node(test)


def test_states_of_a_worker_that_is_being_stopped_are_ignored() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task())
        await node.until_started(1)
        stopping = asyncio.create_task(node.supervisor.stop(NAME, _nothing))
        await asyncio.sleep(1)
        node.supervisor.take_state(NAME, state("hello"))
        assert node.worker.state == "stopping"
        await stopping

    run_on_node(test)


def test_closing_ends_all_without_grace_for_their_work() -> None:
    async def test(node: Node) -> None:
        for name in ("a", "b", "c"):
            node.supervisor.launch(train_task(worker=name))
        running, waiting, _ = [await node.until_started(number) for number in (1, 2, 3)]
        waiting.end()
        await node.loop.wait_until_idle()
        began = node.loop.time()
        await node.supervisor.close()
        assert (running.asked, waiting.asked) == (["terminate", "kill"], [])
        assert (node.supervisor.workers, node.loop.time() - began) == ({}, pytest.approx(GRACE))
        await asyncio.sleep(100)
        assert len(node.started) == 3

    run_on_node(test, stubborn=True)




def test_an_evicted_worker_ends_at_once_and_its_gpus_are_shown_to_it_alone() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(train_task(), ("1", "3"))
        handle = await node.until_started(1)
        assert handle.request.environment["CUDA_VISIBLE_DEVICES"] == "1,3"
        assert node.supervisor.workers[NAME].as_running().gpus == ("1", "3")
        began = node.loop.time()
        await node.supervisor.evict(NAME)
        assert (handle.asked, node.supervisor.workers, node.loop.time()) == (["terminate"], {}, began)
        await node.supervisor.evict(NAME)  # it is gone
        node.supervisor.launch(train_task())
        assert "CUDA_VISIBLE_DEVICES" not in (await node.until_started(2)).request.environment

    run_on_node(test)
