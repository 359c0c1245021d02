"""A node's workers: restarted with back-off, stopped with grace, with any launcher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.bus.contract.payloads import BigModelTask, InferTask, TrainTask
from heliograph.core.world import World
from heliograph.edge_agent.launcher import LaunchFailed, LaunchRequest
from heliograph.edge_agent.shared_directory import SharedDirectory
from heliograph.edge_agent.supervisor import BACKOFF, GRACE, STEADY_AFTER, Supervisor, Worker
from heliograph.simulations.virtual.loop import VirtualLoop, run
from heliograph.simulations.virtual.worker_output import Lines

T = TypeVar("T")
NAME = "job-worker"


def _task(**changes: Any) -> TrainTask:
    return TrainTask(**{"worker": NAME, "job": "job", "job_uid": "u", "round": 1, **changes})


class Handle:
    """A worker that ends when the test ends it, or on ``terminate``, unless it is stubborn."""

    def __init__(self, request: LaunchRequest, at: float, stubborn: bool, silent: bool) -> None:
        self.request = request
        self.at = at
        self.asked: list[str] = []
        self.lines: Lines | None = None if silent else Lines()
        self._stubborn = stubborn
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def end(self, how: str = "exit code 1") -> None:
        if self.lines is not None:
            self.lines.end()
        if not self._ended.done():
            self._ended.set_result(how)

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    async def terminate(self) -> None:
        self.asked.append("terminate")
        if not self._stubborn:
            self.end("exit code -15")

    async def kill(self) -> None:
        self.asked.append("kill")
        self.end("exit code -9")


@dataclass
class Node:
    """A supervisor in virtual time, with a launcher that starts nothing."""

    loop: VirtualLoop
    stubborn: bool = False
    silent: bool = False
    takes: float = 0.0
    """Seconds that a launch takes."""
    failing: str = ""
    started: list[Handle] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    swept: list[set[str]] = field(default_factory=list)
    logged: list[tuple[str, str, str]] = field(default_factory=list)
    changes: int = 0
    next_start: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        secrets = count(1)
        world = World(monotonic=self.loop.time, new_secret=lambda: next(secrets).to_bytes(32, "big"))
        self.supervisor = Supervisor(world, _Launcher(self), {"HELIOGRAPH_EDGE": "edge-1"}, Path("/models"),
                                     self._changed, lambda *logged: self.logged.append(logged))  # fmt: skip

    @property
    def worker(self) -> Worker:
        return self.supervisor.workers[NAME]

    async def until_started(self, starts: int) -> Handle:
        """Return the handle of that start."""
        while len(self.started) < starts:
            self.next_start.clear()
            await self.next_start.wait()
        return self.started[starts - 1]

    def _changed(self) -> None:
        self.changes += 1


class _Launcher(SharedDirectory):
    def __init__(self, node: Node) -> None:
        super().__init__(Path("/nowhere"))
        self._node = node

    async def launch(self, request: LaunchRequest) -> Handle:
        node = self._node
        node.attempts.append(node.loop.time())
        await asyncio.sleep(node.takes)
        if node.failing:
            raise LaunchFailed(node.failing)
        node.started.append(Handle(request, node.loop.time(), node.stubborn, node.silent))
        node.next_start.set()
        return node.started[-1]

    async def offers(self) -> bytes:
        raise AssertionError("a supervisor does not ask")

    def sweep(self, wanted: Collection[str]) -> None:
        self._node.swept.append(set(wanted))


def _on_node(test: Callable[[Node], Coroutine[Any, Any, T]], **how: Any) -> T:
    async def main(loop: VirtualLoop) -> T:
        return await test(Node(loop, **how))

    return run(main)


def _nothing(worker: Worker) -> None:
    return None


def _waits(lasted: Sequence[float]) -> list[float]:
    """Return the seconds between the end of each run and the next start, for runs that lasted so long."""

    async def test(node: Node) -> list[float]:
        node.supervisor.launch(_task())
        found = []
        for number, seconds in enumerate(lasted, 1):
            handle = await node.until_started(number)
            await asyncio.sleep(seconds)
            ended = node.loop.time()
            handle.end()
            found.append((await node.until_started(number + 1)).at - ended)
        return found

    return _on_node(test)


def test_a_worker_is_launched_with_what_it_needs_to_find_its_broker() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(InferTask(worker=NAME, job="job", job_uid="u", generation=1))
        handle = await node.until_started(1)
        request = handle.request
        assert (request.worker, request.role, request.secret) == (NAME, "infer", node.worker.secret)
        assert request.variables("/mine", "/theirs") == {
            "HELIOGRAPH_EDGE": "edge-1",
            "HELIOGRAPH_WORKER": NAME,
            "HELIOGRAPH_SECRET": node.worker.secret.hex(),
            "HELIOGRAPH_DIRECTORY": "/mine",
            "HELIOGRAPH_MODELS": "/theirs",
        }
        assert request.models == Path("/models")
        assert node.worker.state == "starting"

    _on_node(test)


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


def test_a_worker_that_got_to_a_further_round_begins_the_back_off_anew() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        for number in (1, 2, 3):
            (await node.until_started(number)).end()
        handle = await node.until_started(4)
        assert node.worker.restarts == 3
        node.worker.task = _task(round=2)
        handle.end()
        again = await node.until_started(5)
        assert (node.worker.restarts, again.at - handle.at) == (1, pytest.approx(BACKOFF[0]))

    _on_node(test)


def test_each_start_has_a_secret_of_its_own() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        for number in (1, 2, 3):
            handle = await node.until_started(number)
            assert handle.request.secret == node.worker.secret
            handle.end()
        first, second, third = (each.request.secret for each in node.started)
        assert len({first, second, third}) == 3

    _on_node(test)


def test_its_end_and_its_last_line_are_logged() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
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

    _on_node(test)


def test_a_run_that_printed_nothing_is_not_blamed_for_the_lines_of_the_one_before() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        first = await node.until_started(1)
        assert first.lines is not None
        first.lines.say("boom")
        first.end()
        (await node.until_started(2)).end("exit code -9")
        await node.loop.wait_until_idle()
        assert (node.worker.state, node.worker.detail) == ("backing-off", "exit code -9: no output")

    _on_node(test)


def test_a_reported_failure_goes_before_the_last_line() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        handle = await node.until_started(1)
        assert handle.lines is not None
        node.supervisor.take_state(NAME, "hello", "")
        node.supervisor.take_state(NAME, "failed", "ValueError: no data")
        handle.lines.say("  at line 3")
        handle.end()
        await node.loop.wait_until_idle()
        assert node.worker.detail == "exit code 1: ValueError: no data"
        await node.until_started(2)
        assert node.worker.detail == ""

    _on_node(test)


def test_a_worker_whose_log_goes_elsewhere_is_watched_all_the_same() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        (await node.until_started(1)).end("evicted")
        await node.loop.wait_until_idle()
        assert node.worker.detail == "evicted: no output"
        await node.until_started(2)

    _on_node(test, silent=True)


def test_a_launch_that_fails_is_tried_again_with_back_off() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        await asyncio.sleep(0.1)
        assert (node.worker.state, node.worker.detail) == ("backing-off", "not started: no space left")
        await asyncio.sleep(8)
        node.failing = ""
        handle = await node.until_started(1)
        assert [later - before for before, later in pairwise(node.attempts)] == list(BACKOFF[:4])
        await node.loop.wait_until_idle()
        assert (node.worker.state, node.worker.detail, node.worker.handle) == ("starting", "", handle)

    _on_node(test, failing="no space left")


def test_a_hello_makes_it_ready_and_lets_its_task_be_assigned_again() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        await node.until_started(1)
        node.worker.assigned = _task()
        before = node.changes
        node.supervisor.take_state(NAME, "hello", "")
        node.supervisor.take_state("another", "hello", "")
        assert (node.worker.state, node.worker.assigned, node.changes) == ("ready", None, before + 1)
        seen = node.worker.as_running()
        assert (seen.worker, seen.job_uid, seen.state, seen.task) == (NAME, "u", "ready", _task())

    _on_node(test)


def test_the_hello_of_a_process_that_has_ended_makes_nothing_ready() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        (await node.until_started(1)).end()
        await node.loop.wait_until_idle()
        node.supervisor.take_state(NAME, "hello", "")
        assert node.worker.state == "backing-off"

    _on_node(test)


def test_assignments_are_forgotten_for_all() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        await node.until_started(1)
        node.worker.assigned = _task()
        node.supervisor.forget_assignments()
        assert node.worker.assigned is None

    _on_node(test)


def test_services_with_a_ready_edge_worker_are_served() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(InferTask(worker="a", job="street", job_uid="u", generation=1))
        node.supervisor.launch(InferTask(worker="b", job="park", job_uid="u", generation=1))
        node.supervisor.launch(BigModelTask(worker="c", job="deep", job_uid="u", generation=1))
        node.supervisor.launch(_task(worker="d", role="train", job="job"))
        await node.until_started(4)
        for name in ("a", "c", "d"):
            node.supervisor.take_state(name, "hello", "")
        assert node.supervisor.services() == {"street"}

    _on_node(test)


def test_a_worker_that_finishes_by_itself_is_not_terminated() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
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

    _on_node(test)


@pytest.mark.parametrize(("stubborn", "asked", "after"),
                         [(False, ["terminate"], GRACE), (True, ["terminate", "kill"], 2 * GRACE)])  # fmt: skip
def test_a_worker_that_does_not_finish_is_terminated_and_then_killed(
    stubborn: bool, asked: list[str], after: float
) -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        handle = await node.until_started(1)
        began = node.loop.time()
        await node.supervisor.stop(NAME, _nothing)
        assert (handle.asked, node.loop.time() - began) == (asked, pytest.approx(after))
        assert node.supervisor.workers == {}

    _on_node(test, stubborn=stubborn)


def test_a_worker_that_waits_for_its_next_start_is_gone_at_once() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        (await node.until_started(1)).end()
        await node.loop.wait_until_idle()
        assert node.worker.state == "backing-off"
        began = node.loop.time()
        await node.supervisor.stop(NAME, _nothing)
        assert (node.supervisor.workers, node.loop.time()) == ({}, began)
        await asyncio.sleep(100)
        assert len(node.started) == 1

    _on_node(test)


def test_a_worker_that_is_stopped_while_it_is_launched_does_not_stay_behind() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        await asyncio.sleep(0.5)
        await node.supervisor.stop(NAME, _nothing)
        assert node.supervisor.workers == {}
        (handle,) = node.started
        assert handle.asked == ["terminate"]

    _on_node(test, takes=1.0)


def test_a_launch_that_hangs_is_given_up_when_its_worker_is_stopped() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        await asyncio.sleep(0.5)
        await node.supervisor.stop(NAME, _nothing)
        assert (node.supervisor.workers, node.started) == ({}, [])

    _on_node(test, takes=1e9)


def test_stopping_twice_spares_the_next_worker_of_that_name() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        await node.until_started(1)
        stopping = asyncio.create_task(node.supervisor.stop(NAME, _nothing))
        await asyncio.sleep(1)
        await node.supervisor.stop(NAME, _nothing)  # returns at once: it is being stopped
        assert node.worker.state == "stopping"
        await stopping
        node.supervisor.launch(_task(job_uid="v"))
        await asyncio.sleep(100)
        assert node.worker.task.job_uid == "v"
        await node.supervisor.stop("nobody", _nothing)

    _on_node(test)


def test_states_of_a_worker_that_is_being_stopped_are_ignored() -> None:
    async def test(node: Node) -> None:
        node.supervisor.launch(_task())
        await node.until_started(1)
        stopping = asyncio.create_task(node.supervisor.stop(NAME, _nothing))
        await asyncio.sleep(1)
        node.supervisor.take_state(NAME, "hello", "")
        assert node.worker.state == "stopping"
        await stopping

    _on_node(test)


def test_closing_ends_all_without_grace_for_their_work() -> None:
    async def test(node: Node) -> None:
        for name in ("a", "b", "c"):
            node.supervisor.launch(_task(worker=name))
        running, waiting, _ = [await node.until_started(number) for number in (1, 2, 3)]
        waiting.end()
        await node.loop.wait_until_idle()
        began = node.loop.time()
        await node.supervisor.close()
        assert (running.asked, waiting.asked) == (["terminate", "kill"], [])
        assert (node.supervisor.workers, node.loop.time() - began) == ({}, pytest.approx(GRACE))
        await asyncio.sleep(100)
        assert len(node.started) == 3

    _on_node(test, stubborn=True)


