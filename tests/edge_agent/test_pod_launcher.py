"""Workers in pods: what agent and pod hand each other, and what becomes of a worker when one of the two ends."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from heliograph.core.pod_channel import SOCKET
from heliograph.core.world import World
from heliograph.edge_agent.launcher import LaunchFailed
from heliograph.edge_agent.pod_launcher import PodLauncher
from tests.edge_agent.pods_on_node import FOR_EVER, NAME, SECRET_BYTES, first_line, lines_of, node_with_pods
from tests.kubernetes.kubelet import Pod

pytestmark = pytest.mark.process


async def test_a_pod_runs_the_worker_and_hands_back_its_lines_and_its_exit_code(tmp_path: Path) -> None:
    script = "import sys; print('one'); print('two', file=sys.stderr); print('three', end=''); sys.exit(3)"
    async with node_with_pods(tmp_path) as node:
        pod = node.kubelet.run(node.job())
        worker = await node.launcher.launch(node.request(script))
        assert await lines_of(worker) == ["one", "two", "three"]
        assert await worker.wait() == "exit code 3"
        assert pod.printed == ["one", "two", "three"]  # also for kubectl logs
        again = await node.launcher.launch(node.request("import os; print(os.getcwd(), os.environ['HELIOGRAPH_CODE'])"))
        assert await lines_of(again) == [f"{node.pods / NAME}/outputs/{NAME} []"]
        assert (await again.wait(), pod.starts) == ("exit code 0", 1)  # the same pod runs each start


async def test_a_worker_reads_its_secret_and_nothing_of_it_stays(tmp_path: Path) -> None:
    script = """
import os, sys
from heliograph.workers.runtime import WorkerEnvironment
print(WorkerEnvironment.from_environment().secret.hex())
directory = os.environ['HELIOGRAPH_DIRECTORY']
print(open('/proc/self/environ').read().count(bytes(range(32)).hex()), sorted(os.listdir(directory)))
print(oct(os.stat(directory).st_mode & 0o777))
"""
    async with node_with_pods(tmp_path) as node:
        pod = node.kubelet.run(node.job())
        worker = await node.launcher.launch(node.request(script, login="a login"))
        lines = await lines_of(worker)
        assert lines == [SECRET_BYTES.hex(), "0 ['agent.sock', 'login.creds', 'outputs']", "0o700"]
        assert SECRET_BYTES.hex() not in json.dumps(pod.manifest)
        assert stat.S_IMODE((node.pods / NAME / SOCKET).stat().st_mode) == 0o600


async def test_a_worker_that_is_launched_before_its_pod_waits_and_says_so(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        worker = await node.launcher.launch(node.request("print('here')"))
        await node.waited.wait()
        assert node.waits == ["waiting for its pod: 'kubectl describe pods -l edgeai.io/edge=edge-1,edgeai.io/worker="
                              "job-worker' says why it does not come"]  # fmt: skip
        node.kubelet.run(node.job())
        assert await lines_of(worker) == ["here"]
        assert node.waits[-1] == ""


async def test_a_pod_that_comes_before_its_agent_waits_for_it(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        (node.pods / NAME).mkdir(parents=True)
        pod = node.kubelet.run(node.job())
        await pod.started.wait()
        worker = await node.launcher.launch(node.request("print('here')"))
        assert await lines_of(worker) == ["here"]


async def test_a_worker_whose_pod_never_comes_can_be_stopped(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        worker = await node.launcher.launch(node.request("print('here')"))
        await node.waited.wait()
        await worker.terminate()
        assert await lines_of(worker) == []
        assert await worker.wait() == "ended before its pod came"


async def test_a_worker_can_be_stopped_at_once_after_its_launch(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        worker = await node.launcher.launch(node.request("print('here')"))
        await worker.terminate()  # before anything else of the launch has run
        assert await lines_of(worker) == []
        assert await worker.wait() == "ended before its pod came"


async def test_terminate_asks_and_kill_ends_also_what_the_worker_has_started(tmp_path: Path) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    obeys = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); " + FOR_EVER
    ignores = f"""
import os, signal, subprocess, sys
signal.signal(15, signal.SIG_IGN)
subprocess.Popen(["sh", "-c", "exec sleep 600 > {held}"], start_new_session=True)
{FOR_EVER}"""
    async with node_with_pods(tmp_path) as node:
        node.kubelet.run(node.job())
        worker = await node.launcher.launch(node.request(obeys))
        _, lines = await first_line(worker)
        await worker.terminate()
        assert [line async for line in lines] == []
        assert await worker.wait() == "exit code 7"
        worker = await node.launcher.launch(node.request(ignores))
        _, lines = await first_line(worker)
        reading = await asyncio.to_thread(held.open, "rb")
        await worker.terminate()
        await worker.kill()
        assert [line async for line in lines] == []
        assert "signal 9" in await worker.wait()
        assert await asyncio.to_thread(reading.read) == b""  # the grandchild has let go of it
        reading.close()


async def test_a_pod_whose_container_is_killed_comes_back_and_the_worker_is_told_as_ended(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        pod: Pod = node.kubelet.run(node.job())
        worker = await node.launcher.launch(node.request(FOR_EVER))
        _, lines = await first_line(worker)
        pod.kill_container()
        assert [line async for line in lines] == []
        assert await worker.wait() == "its pod has ended"
        again = await node.launcher.launch(node.request("print('again')"))
        assert await lines_of(again) == ["again"]
        assert pod.starts == 2


async def test_a_deleted_pod_ends_its_worker_and_does_not_count_as_done(tmp_path: Path) -> None:
    script = "import signal, sys; signal.signal(15, lambda *_: (print('asked', flush=True), sys.exit(0))); " + FOR_EVER
    async with node_with_pods(tmp_path) as node:
        node.kubelet.run(node.job())
        worker = await node.launcher.launch(node.request(script))
        _, lines = await first_line(worker)
        pod = await node.kubelet.delete("job-1")
        assert [line async for line in lines] == ["asked"]
        assert await worker.wait() == "exit code 0"
        assert pod.process.returncode == 143


async def test_the_worker_ends_with_its_agent_and_the_pod_waits_for_the_next_agent(tmp_path: Path) -> None:
    held = tmp_path / "held"
    os.mkfifo(held)
    async with node_with_pods(tmp_path) as node:
        pod = node.kubelet.run(node.job())
        worker = await node.launcher.launch(node.request(f"kept = open({str(held)!r}, 'w'); {FOR_EVER}"))
        reading = await asyncio.to_thread(held.open, "rb")
        await first_line(worker)
        node.launcher._doors[NAME].close()  # as the kernel does it for an agent that is killed
        assert await asyncio.to_thread(reading.read) == b""
        reading.close()
        next_agent = PodLauncher(World(), node.pods)
        worker = await next_agent.launch(node.request("print('for the next agent')"))
        assert await lines_of(worker) == ["for the next agent"]
        assert pod.starts == 1
        next_agent.sweep(())


async def test_a_pod_of_earlier_settings_gets_no_worker(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        node.kubelet.run(node.job("0" * 16, "old"))
        before = await node.launcher.launch(node.request("print('before')", "0" * 16))
        assert await lines_of(before) == ["before"]
        node.waited.clear()
        worker = await node.launcher.launch(node.request("print('after')"))
        await node.waited.wait()
        node.kubelet.run(node.job())
        assert await lines_of(worker) == ["after"]


async def test_of_two_pods_one_has_the_worker_and_the_other_takes_its_place(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        first = node.kubelet.run(node.job(name="first"))
        worker = await node.launcher.launch(node.request(FOR_EVER))
        _, lines = await first_line(worker)
        second = node.kubelet.run(node.job(name="second"))
        await second.started.wait()
        await node.kubelet.delete("first")
        assert [line async for line in lines] == []
        again = await node.launcher.launch(node.request("print('again')"))
        assert await lines_of(again) == ["again"]
        assert (first.printed, second.printed) == (["up"], ["again"])


async def test_a_swept_workers_pod_is_let_go_and_its_directory_goes(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        node.kubelet.run(node.job())
        worker = await node.launcher.launch(node.request("print('here')", login="a login"))
        assert await lines_of(worker) == ["here"]
        node.launcher.sweep({NAME})
        assert (node.pods / NAME / SOCKET).exists()
        node.launcher.sweep(())
        assert list(node.pods.iterdir()) == []


async def test_what_a_worker_has_staged_outlives_the_sweep(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        node.kubelet.run(node.job())
        script = """
import os
os.chdir(os.environ['HELIOGRAPH_DIRECTORY'])
os.mkdir('staged')
open('staged/' + 'a' * 64, 'w').close()
os.mkdir('updates')
os.symlink('/', 'updates/root')
os.symlink('staged', 'link')
open('script.json', 'w').close()
"""
        worker = await node.launcher.launch(node.request(script))
        assert await lines_of(worker) == []
        node.launcher.sweep(())
        assert [each.name for each in (node.pods / NAME).iterdir()] == ["staged"]
        assert await node.launcher.staged(NAME, "a" * 64) == node.pods / NAME / "staged" / ("a" * 64)
        await node.launcher.discard(NAME, "a" * 64)
        node.launcher.sweep(())
        assert list(node.pods.iterdir()) == []


async def test_a_script_of_the_image_may_run_and_one_beside_it_may_not(tmp_path: Path) -> None:
    script = tmp_path / "image" / "train.py"
    async with node_with_pods(tmp_path) as node:
        node.kubelet.run(node.job(script=str(script)))
        worker = await node.launcher.launch(node.request("import os; print(os.environ['HELIOGRAPH_CODE'])"))
        assert await lines_of(worker) == [json.dumps([str(script.parent)])]


async def test_a_script_of_the_node_finds_the_files_of_its_working_directory(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "settings.txt").write_text("as on the node")
    script = "print(open('settings.txt').read()); open('result.txt', 'w').write('kept')"
    async with node_with_pods(tmp_path) as node:
        node.kubelet.run(node.job())
        worker = await node.launcher.launch(node.request(script, job="job", working_directory=code))
        assert await lines_of(worker) == ["as on the node"]
        place = node.pods / NAME / "outputs" / "job"
        assert {each.name for each in (place / NAME).iterdir()} == {"result.txt"}
        assert "as on the node" in (place / f"{NAME}.log").read_text()


@pytest.mark.parametrize("place", ["outputs", "outputs/job", f"outputs/job/{NAME}"])
async def test_a_link_that_a_pod_has_left_leads_its_agent_nowhere(tmp_path: Path, place: str) -> None:
    code, elsewhere = tmp_path / "code", tmp_path / "elsewhere"
    for each in (code, elsewhere / "empty" / "below"):
        each.mkdir(parents=True)
    (code / "settings.txt").write_text("as on the node")
    leaves = f"""
import os, shutil
link = os.path.join(os.environ['HELIOGRAPH_DIRECTORY'], {place!r})
shutil.rmtree(link)
os.symlink({str(elsewhere)!r}, link)
"""
    async with node_with_pods(tmp_path) as node:
        node.kubelet.run(node.job())
        for script in (leaves, "print(open('settings.txt').read())", leaves):
            worker = await node.launcher.launch(node.request(script, job="job", working_directory=code))
            assert await lines_of(worker) == (["as on the node"] if script != leaves else [])
        node.launcher.sweep(())
    assert [str(each.relative_to(elsewhere)) for each in sorted(elsewhere.rglob("*"))] == ["empty", "empty/below"]


async def test_a_long_line_and_many_lines_arrive(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        node.kubelet.run(node.job())
        script = "print('x' * 200_000); [print(n) for n in range(5000)]; import os; os.write(1, b'\\xff\\n')"
        worker = await node.launcher.launch(node.request(script))
        lines = await lines_of(worker)
        assert "".join(lines[: -5001]) == "x" * 200_000
        assert lines[-5001:-1] == [str(n) for n in range(5000)]
        assert lines[-1] == "\N{REPLACEMENT CHARACTER}"


async def test_a_role_without_a_worker_is_refused(tmp_path: Path) -> None:
    async with node_with_pods(tmp_path) as node:
        with pytest.raises(LaunchFailed, match="no worker runs for role dream"):
            await node.launcher.launch(replace(node.request(""), role="dream"))
