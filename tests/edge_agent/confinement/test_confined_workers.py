"""Workers try to leave what their node lets them: real processes, under the kernel's own rules."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heliograph.edge_agent.confinement import landlock, seccomp
from heliograph.edge_agent.confinement.confiner import Confiner, Limits
from heliograph.edge_agent.confinement.site_policy import CONFINED, OPEN, SitePolicy
from heliograph.edge_agent.confinement.task_count import tasks_by_group
from heliograph.edge_agent.launcher import LaunchRequest
from heliograph.edge_agent.process_launcher import ProcessLauncher
from tests.edge_agent.test_process_launcher import running
from tests.patience import HANGS

pytestmark = pytest.mark.skipif(
    not (landlock.version() >= landlock.SCOPES_FROM and seccomp.available()),
    reason=f"not run: this kernel's Landlock has version {landlock.version()}, these tests need {landlock.SCOPES_FROM}",
)

TRY = '''
import json, os, socket, subprocess, sys, tempfile, threading
def tried(what):
    try:
        what()
        return "yes"
    except PermissionError:
        return "no"
    except OSError as error:
        return error.strerror or str(error)
def said(**results):
    print(json.dumps({name: tried(each) for name, each in results.items()}), flush=True)
'''


class Node:
    """A node with an agent's state, code, data and models, and a broker that accepts connections."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.state, self.code, self.data = (directory / name for name in ("state", "code", "data"))
        for each in (self.state, self.state / "models", self.code, self.data):
            each.mkdir()
        (self.state / "journal.db").write_text("secret")
        (self.state / "models" / "abc").write_text("weights")
        (self.code / "train.py").write_text("helper = 1")
        (self.data / "own.csv").write_text("1,2")
        (self.data / "other.csv").write_text("3,4")
        self.port = port

    def request(self, **changes: Any) -> LaunchRequest:
        bus = {"HELIOGRAPH_BUS": f"mqtt://worker:x@127.0.0.1:{self.port}", "HELIOGRAPH_EDGE": "edge-1"}
        given = LaunchRequest("job-worker", "train", bytes(32), bus, self.state / "models", (self.code,), "job",
                              data=(self.data / "own.csv",))  # fmt: skip
        return replace(given, **changes)

    async def run(self, script: str, policy: SitePolicy = CONFINED, limits: Limits | None = None,
                  **changes: Any) -> tuple[list[str], str]:  # fmt: skip
        """Run a worker with the script, and return its lines and its end."""
        confiner = Confiner(policy, limits, (self.state,))
        launcher = ProcessLauncher(running(script), self.state / "workers", confiner)
        worker = await launcher.launch(self.request(**changes))
        assert worker.lines is not None
        async with asyncio.timeout(HANGS):
            lines = [line async for line in worker.lines]
            return lines, await worker.wait()

    async def tried(self, script: str, policy: SitePolicy = CONFINED, **changes: Any) -> dict[str, str]:
        lines, ended = await self.run(TRY + script, policy, **changes)
        assert ended == "exit code 0", lines
        return dict(json.loads(lines[-1]))

    @property
    def own(self) -> Path:
        return self.state / "workers" / "job-worker"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        yield Node(tmp_path, broker.getsockname()[1])


def opening(*paths: Path) -> str:
    return "\n".join(f"said(**{{str(n): (lambda p=p: open(p).close()) for n, p in enumerate({[*map(str, paths)]})}})"
                     for _ in (1,))  # fmt: skip


async def test_a_worker_reads_its_code_model_and_data_and_nothing_else(node: Node) -> None:
    home = Path(node.directory / "home.txt")
    home.write_text("private")
    allowed = [node.code / "train.py", node.state / "models" / "abc", node.data / "own.csv", Path("/etc/passwd")]
    denied = [node.state / "journal.db", node.data / "other.csv", home, Path("/etc/shadow"), Path("/etc/ssh")]
    found = [*(await node.tried(opening(*allowed, *denied))).values()]
    assert found == ["yes"] * len(allowed) + ["no"] * len(denied)


async def test_a_worker_writes_in_its_own_directory_alone(node: Node) -> None:
    model = node.state / "models" / "abc"
    script = f"""
said(own=lambda: open("own.txt", "w").write("x"), temporary=lambda: tempfile.TemporaryFile().close(),
     home=lambda: open(os.path.expanduser("~/x"), "w"), shared=lambda: open("/dev/shm/{node.port}", "w"),
     code=lambda: open({str(node.code / 'train.py')!r}, "a"), model=lambda: os.remove({str(model)!r}),
     data=lambda: open({str(node.data / 'own.csv')!r}, "a"), tmp=lambda: open("/tmp/{node.port}", "w"),
     rename=lambda: os.rename("own.txt", {str(node.directory / 'moved')!r}))
"""
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: Path(f"/dev/shm/{node.port}").unlink(missing_ok=True))
        found = await node.tried(script)
    assert [name for name, each in found.items() if each == "yes"] == ["own", "temporary", "home", "shared"]
    assert (node.own / "own.txt").exists() and (node.own / "home" / "x").exists()


async def test_code_that_encloses_private_files_does_not_open_them(node: Node) -> None:
    """As where ``heliograph up --code .`` has its state below the code."""
    (node.directory / "module.py").write_text("")
    script = opening(node.directory / "module.py", node.code / "train.py", node.state / "journal.db")
    found = await node.tried(script, code=(node.directory,), data=())
    assert [*found.values()] == ["yes", "yes", "no"]


async def test_the_site_policy_adds_files(node: Node) -> None:
    policy = replace(CONFINED, read=(node.data / "other.csv",), write=(node.code,))
    found = await node.tried(f"""
said(read=lambda: open({str(node.data / 'other.csv')!r}), write=lambda: open({str(node.data / 'other.csv')!r}, "a"),
     code=lambda: open({str(node.code / 'new')!r}, "w"))
""", policy)  # fmt: skip
    assert found == {"read": "yes", "write": "no", "code": "yes"}


async def test_the_files_of_an_index_and_behind_links_are_the_data(node: Node) -> None:
    images, elsewhere = node.data / "images" / "cat", node.directory / "elsewhere"
    images.mkdir(parents=True)
    elsewhere.mkdir()
    for directory, name in ((images, "1.png"), (elsewhere, "2.png")):
        (directory / name).write_text("x")
    (images / "2.png").symlink_to(elsewhere / "2.png")
    (node.data / "index.txt").write_text("images/cat/1.png cat\n")
    found = await node.tried(opening(images / "1.png", images / "2.png"), data=(node.data / "images",))
    assert [*found.values()] == ["yes", "yes"]
    found = await node.tried(opening(images / "1.png", elsewhere / "2.png"), data=(node.data / "index.txt",))
    assert [*found.values()] == ["yes", "no"]


async def test_a_worker_reaches_the_nodes_broker_and_no_other_address(node: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        script = f"""
said(broker=lambda: socket.create_connection(("127.0.0.1", {node.port}), 5).close(),
     other=lambda: socket.create_connection(("127.0.0.1", {other.getsockname()[1]}), 5).close(),
     listen=lambda: socket.create_server(("127.0.0.1", 0)).close(),
     udp=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
     pair=lambda: socket.socketpair())
"""
        assert await node.tried(script) == {"broker": "yes", "other": "no", "listen": "no", "udp": "no", "pair": "yes"}
        full = await node.tried(script, replace(CONFINED, network="full"))
        assert set(full.values()) == {"yes"}


async def test_a_broker_that_has_a_name_can_be_looked_up(node: Node) -> None:
    script = "said(udp=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())"
    bus = {"HELIOGRAPH_BUS": f"mqtt://worker:x@broker.example:{node.port}", "HELIOGRAPH_EDGE": "edge-1"}
    assert await node.tried(script, environment=bus) == {"udp": "yes"}


async def test_a_worker_learns_no_secret_of_its_agent_and_sends_it_no_signal(node: Node) -> None:
    found = await node.tried("""
agent = f"/proc/{os.getppid()}"
said(environ=lambda: open(agent + "/environ").read(), memory=lambda: open(agent + "/mem", "rb"),
     maps=lambda: open(agent + "/maps").read(), directory=lambda: os.readlink(agent + "/cwd"),
     file=lambda: open(agent + "/fd/0", "rb"), signal=lambda: os.kill(os.getppid(), 0))
""")
    assert set(found.values()) == {"no"}


async def test_a_worker_gains_no_privileges(node: Node) -> None:
    lines, _ = await node.run('print([line for line in open("/proc/self/status") if line[:4] in ("CapE", "NoNe")])')
    assert "NoNewPrivs:\\t1" in lines[-1]
    effective = int(lines[-1].split("CapEff:\\t")[1][:16], 16)
    assert effective & ~(1 << 1) == 0  # it may open files, within Landlock's rules; nothing else


async def test_threads_children_and_numpy_work(node: Node) -> None:
    found = await node.tried("""
import multiprocessing
import numpy
def child(): sys.exit(subprocess.run([sys.executable, "-c", "import json"], start_new_session=True).returncode)
def in_process():
    process = multiprocessing.get_context("fork").Process(target=lambda: None)
    process.start(); process.join(); assert process.exitcode == 0
def in_thread():
    thread = threading.Thread(target=lambda: numpy.linalg.inv(numpy.eye(64))); thread.start(); thread.join()
said(child=lambda: subprocess.run([sys.executable, "-c", "import json"], check=True, start_new_session=True),
     process=in_process, thread=in_thread, queue=lambda: multiprocessing.get_context("fork").Queue(3))
""")
    assert set(found.values()) == {"yes"}


async def test_with_an_open_policy_nothing_is_confined(node: Node) -> None:
    found = await node.tried(opening(node.state / "journal.db", node.data / "other.csv"), OPEN)
    assert [*found.values()] == ["yes", "yes"]


async def test_a_failure_that_may_be_the_policys_says_so(node: Node) -> None:
    _, ended = await node.run(f"open({str(node.data / 'other.csv')!r})")
    assert ended.startswith("exit code 1, after it was refused a file or an address: this node's site policy")
    assert (await node.run("1 / 0"))[1] == "exit code 1"
    assert (await node.run("raise PermissionError(13, 'Permission denied')", OPEN))[1] == "exit code 1"


# what a worker takes


BOMB = """
import os, time
print(os.getpid(), flush=True)
while True:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        print("full", flush=True)
        time.sleep(3600)
"""


async def test_a_fork_bomb_is_bounded_and_ends_with_its_worker(node: Node) -> None:
    confiner = Confiner(replace(CONFINED, processes=32), None, (node.state,))
    worker = await ProcessLauncher(running(BOMB), node.state / "workers", confiner).launch(node.request())
    assert worker.lines is not None
    lines = aiter(worker.lines)
    async with asyncio.timeout(HANGS):
        group = int(await anext(lines))
        while not confiner.counts_processes and await anext(lines) != "full":
            pass
        if not confiner.counts_processes:  # else the agent has ended it by itself
            assert 8 < tasks_by_group()[group] <= 32 + 1
            await worker.kill()
        async for _ in lines:
            pass
    assert await _gone(group)


async def test_a_child_that_tries_to_outlive_its_worker_ends_with_it(node: Node) -> None:
    lines, ended = await node.run("""
import os, sys
reading, writing = os.pipe()
if os.fork() == 0:
    try: os.setsid()
    except OSError: pass
    if os.fork() == 0:
        os.set_inheritable(writing, True)
        stays = f"import os, time; os.write({writing}, b'x'); time.sleep(3600)"
        os.execve(sys.executable, [sys.executable, "-c", stays], {})
    os._exit(0)
assert os.read(reading, 1) == b"x"
print(os.getpid(), flush=True)
""")
    assert ended == "exit code 0" and await _gone(int(lines[-1]))


async def test_a_worker_that_fills_the_disk_ends_and_says_where(node: Node) -> None:
    free = shutil.disk_usage(node.directory).free >> 20
    _, ended = await node.run("""
block = bytes(1 << 20)
for number in range(100_000):
    with open(f"filling-{number // 8}", "ab") as file:
        file.write(block); file.flush()
""", replace(CONFINED, keep_free_mb=free - 128))  # fmt: skip
    assert f"MB below {node.own}" in ended and "delete what is not needed there" in ended
    shutil.rmtree(node.own)


async def test_a_worker_that_takes_too_much_memory_fails_alone(node: Node) -> None:
    lines, ended = await node.run("x = bytearray(1 << 30)", limits=Limits(memory_mb=256))
    assert (lines[-1], ended) == ("MemoryError", "exit code 1")


async def test_the_kernel_would_end_the_worker_before_the_agent(node: Node) -> None:
    lines, _ = await node.run("print(open('/proc/self/oom_score_adj').read())")
    assert int(lines[0]) > int(Path("/proc/self/oom_score_adj").read_text())


# what this machine cannot do


@pytest.mark.parametrize(("version", "words"), [(0, "no Landlock"), (3, "bounds no TCP connections"), (6, "")])
def test_what_is_not_enforced_is_said(monkeypatch: pytest.MonkeyPatch, version: int, words: str) -> None:
    monkeypatch.setattr(landlock, "version", lambda: version)
    said = " ".join(Confiner(CONFINED).unenforced)
    assert words in said and bool(said) == bool(words)
    assert Confiner(OPEN).unenforced == []


async def _gone(group: int) -> bool:
    """Wait until no process of a group runs."""
    async with asyncio.timeout(HANGS):
        while tasks_by_group().get(group):
            await asyncio.sleep(0.01)
    return True
