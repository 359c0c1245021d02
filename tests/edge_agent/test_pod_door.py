"""What comes to a worker's door and is not its pod."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from pathlib import Path

import pytest

from heliograph.core.pod_channel import MAX_MESSAGE, PROTOCOL, SECRET, packed, socket_path
from heliograph.edge_agent import pod_door
from tests.edge_agent.pods_on_node import FOR_EVER, IDENTITY, NAME, lines_of, node_with_pods

HELLO = packed({"hello": {"protocol": PROTOCOL, "version": "0.2", "pod": IDENTITY}})
pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "was not understood"),
        ((MAX_MESSAGE + 1).to_bytes(4, "big"), "at most"),
        (packed({"hello": {"protocol": 99, "version": "9.9", "pod": IDENTITY}}), "its image has heliograph 9.9"),
        (packed({"hello": {"protocol": 1, "version": "0.2", "pod": "f" * 16}}), "a pod of another job"),
        (packed({"hello": "?"}), "whose pods speak protocol None"),
        (b"\0\0\0\x03[1]", "expected a JSON object"),
        (b"\0\0\0\x04" + b"[" * 4, "expected a JSON object"),
    ],
)  # fmt: skip
async def test_what_is_no_pod_of_this_worker_gets_nothing_and_is_told(tmp_path: Path, sent: bytes, told: str) -> None:
    async with node_with_pods(tmp_path) as node:
        worker = await node.launcher.launch(node.request("print('here')"))
        await node.waited.wait()
        with socket.socket(socket.AF_UNIX) as stranger, socket_path(node.pods / NAME) as path:
            stranger.connect(path)
            stranger.sendall(sent)
            answer = await asyncio.to_thread(stranger.recv, 65536)
        assert b"launch" not in answer
        while told not in node.waits[-1]:
            node.waited.clear()
            await node.waited.wait()
        assert not (node.pods / NAME / SECRET).exists()
        node.kubelet.run(node.job())
        assert await lines_of(worker) == ["here"]


async def test_a_connection_that_says_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_door, "HELLO_WITHIN", 0.01)
    async with node_with_pods(tmp_path) as node:
        worker = await node.launcher.launch(node.request("print('here')"))
        with socket.socket(socket.AF_UNIX) as stranger, socket_path(node.pods / NAME) as path:
            stranger.connect(path)
            assert await asyncio.to_thread(stranger.recv, 1) == b""
        while "did not say within 0.01 s which pod it is" not in "".join(node.waits):
            node.waited.clear()
            await node.waited.wait()
        await worker.terminate()


async def test_a_pod_that_is_gone_before_it_reads_is_no_stranger(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        worker = await node.launcher.launch(node.request(FOR_EVER))
        with socket.socket(socket.AF_UNIX) as pod, socket_path(node.pods / NAME) as path:
            pod.connect(path)
            pod.sendall(HELLO)
            await asyncio.to_thread(select.select, [pod], [], [])
        assert await worker.wait() == "its pod has ended"
        node.waited.clear()
        worker = await node.launcher.launch(node.request("print('here')"))
        while not node.waits[-1]:
            node.waited.clear()
            await node.waited.wait()
        assert "says why it does not come" in node.waits[-1]
        await worker.terminate()


async def test_a_pod_whose_lines_nobody_reads_gives_way_to_the_next(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        worker = await node.launcher.launch(node.request(FOR_EVER))
        with socket.socket(socket.AF_UNIX) as pod, socket_path(node.pods / NAME) as path:
            pod.connect(path)
            pod.sendall(HELLO + packed({"line": "more than are kept"}) * 1000)
            assert b"launch" in await asyncio.to_thread(pod.recv, 65536)
            await worker.kill()
            assert await worker.wait() == "its pod was let go"
            node.kubelet.run(node.job("f" * 16))
            worker = await node.launcher.launch(node.request("print('here')", "f" * 16))
            assert await lines_of(worker) == ["here"]


async def test_a_flood_of_connections_is_bounded(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        worker = await node.launcher.launch(node.request("print('here')"))
        with contextlib.ExitStack() as stack, socket_path(node.pods / NAME) as path:
            strangers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(8)]
            for each in strangers:
                each.connect(path)
            further = stack.enter_context(socket.socket(socket.AF_UNIX))
            await asyncio.to_thread(further.connect, path)
            assert await asyncio.to_thread(further.recv, 1) == b""
        node.kubelet.run(node.job())
        assert await lines_of(worker) == ["here"]
