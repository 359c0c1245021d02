"""Echo rounds of Flower and of Heliograph on this machine, in turns, each in its own virtual environment.

Every participant is a process of its own and returns the arrays it got plus one; all talk over loopback. Flower runs
in two ways: ``deployed``, as its documentation starts it today (flower-superlink, a flower-supernode for each
participant, ``flwr run``), and ``grpc-bidi``, its deprecated streaming server (start_server and start_client).

A round lasts from the close of one aggregation to the close of the next, after a warm-up; the last model is checked.
Peak memory is that of the process that aggregates, which both have, and for Flower also the sum of its server's
processes: in Heliograph, the broker and the coordinator have their part there, which is not counted here.

    python simulations/benchmarks/versus_flower.py --sizes 1MB,10MB --edges 4 --rounds 5
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
VENV = BUILD / "flower-venv"
HOME = BUILD / "flower-run"
OUT = HOME / "closed.json"
WARM_UP = 2
"""Rounds of Flower before those that count; Heliograph's benchmark has its own."""

PROJECT = """
[project]
name = "echo-app"
version = "1.0.0"
description = "Returns the arrays it got plus one"
license = "Apache-2.0"
dependencies = ["flwr", "numpy"]
[tool.flwr.app]
publisher = "bench"
components = {serverapp = "echo_app.app:server", clientapp = "echo_app.app:client"}
config = {edges = %d, size = %d, rounds = %d, out = "%s"}
"""
APP = """
import json, os, time
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()
closed = []

@client.train()
def train(message, context):
    arrays = [array + 1 for array in message.content["arrays"].to_numpy_ndarrays()]
    content = {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 10})}
    return Message(content=RecordDict(content), reply_to=message)

class Timed(FedAvg):
    def aggregate_train(self, server_round, replies):
        result = super().aggregate_train(server_round, replies)
        closed.append(time.perf_counter())
        return result

@server.main()
def main(grid, context):
    edges, size, rounds, out = (context.run_config[name] for name in ("edges", "size", "rounds", "out"))
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes=edges, min_available_nodes=edges)
    try:
        result = strategy.start(grid, ArrayRecord([np.zeros(size // 4, np.float32)]), num_rounds=rounds)
        right = (result.arrays.to_numpy_ndarrays()[0] == rounds).all()
        told = closed if right else "some update did not count"
    except Exception as error:
        told = repr(error)
    with open(out + ".new", "w") as file:
        json.dump(told, file)
    os.rename(out + ".new", out)
"""
BIDI_SERVER = """
import json, os, sys, time
import numpy as np
import flwr
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAvg

(edges, size, rounds), out = map(int, sys.argv[2:5]), sys.argv[5]
closed, last = [], []

class Timed(FedAvg):
    def aggregate_fit(self, *arguments):
        result = super().aggregate_fit(*arguments)
        closed.append(time.perf_counter())
        last[:] = [result[0]]
        return result

strategy = Timed(fraction_evaluate=0.0, min_fit_clients=edges, min_available_clients=edges, min_evaluate_clients=0,
                 initial_parameters=ndarrays_to_parameters([np.zeros(size // 4, np.float32)]))
flwr.server.start_server(server_address=sys.argv[1], config=flwr.server.ServerConfig(num_rounds=rounds),
                         strategy=strategy, grpc_max_message_length=2**31 - 1)
right = (parameters_to_ndarrays(last[0])[0] == rounds).all()
with open(out + ".new", "w") as file:
    json.dump(closed if right else "some update did not count", file)
os.rename(out + ".new", out)
"""
BIDI_CLIENT = """
import sys
import flwr

class Echo(flwr.client.NumPyClient):
    def fit(self, arrays, config):
        return [array + 1 for array in arrays], 10, {}

flwr.client.start_client(server_address=sys.argv[1], client=Echo().to_client(), grpc_max_message_length=2**31 - 1)
"""


@dataclass
class RoundTimes:
    """Seconds of each round; peak resident bytes of the process that aggregates, and of all server processes."""

    seconds: list[float] = field(default_factory=list)
    aggregation_peak_rss: int = 0
    server_peak_rss: int = 0
    error: str = ""

    def add(self, turn: RoundTimes) -> None:
        """Joins another turn of the same contestant to this one."""
        self.seconds += turn.seconds
        self.aggregation_peak_rss = max(self.aggregation_peak_rss, turn.aggregation_peak_rss)
        self.server_peak_rss = max(self.server_peak_rss, turn.server_peak_rss)
        self.error = self.error or turn.error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1MB,10MB,100MB", help="bytes of the model: 250000, 1MB, 1.5GB, ...")
    parser.add_argument("--edges", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1, help="how often each takes its turn at a size")
    parser.add_argument("--flower", choices=["deployed", "grpc-bidi", "both", "none"], default="both")
    parser.add_argument("--flower-version", default="1.41.0")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one turn")
    asked = parser.parse_args()
    ways = {"both": ["deployed", "grpc-bidi"], "none": []}.get(asked.flower, [asked.flower])
    if ways:
        ensure_flower(asked.flower_version)
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: Flower's orphans stay below this process
    results: dict[str, dict[str, RoundTimes]] = {}
    for size in asked.sizes.split(","):
        table = results[size] = {way: RoundTimes() for way in ["heliograph", *ways]}
        for _, way in itertools.product(range(asked.repeats), table):
            turn = one_turn(way, asked.edges, number_of_bytes(size), asked.rounds, asked.timeout)
            table[way].add(turn)
            print(f"{size} {way}: {' '.join(f'{lap:.3f}' for lap in turn.seconds) or turn.error}", flush=True)
    print_table(results, asked.edges)
    told = {size: {way: asdict(each) for way, each in table.items()} for size, table in results.items()}
    document = {"flower": asked.flower_version, "edges": asked.edges, "results": told}
    BUILD.mkdir(exist_ok=True)
    (BUILD / "versus_flower.json").write_text(json.dumps(document, indent=1))
    return int(any(each.error for table in results.values() for each in table.values()))


def print_table(results: Mapping[str, Mapping[str, RoundTimes]], edges: int) -> None:
    """Seconds and memory of each; the ratio is to Heliograph's median at that size."""
    print(f"\n{edges} participants; seconds a round; peak memory in MB")
    print("   model              median   fastest   slowest    ratio  aggregating  all servers")
    for size, table in results.items():
        base = statistics.median(table["heliograph"].seconds or [0.0])
        for way, each in table.items():
            if not each.seconds:
                print(f"{size:>8} {way:10} {each.error.splitlines()[0]}")
                continue
            middle = statistics.median(each.seconds)
            ratio = f"{middle / base:.2f}" if base else "-"
            servers = f"{each.server_peak_rss / 1e6:.0f}" if each.server_peak_rss else "-"
            print(f"{size:>8} {way:10} {middle:9.3f} {min(each.seconds):9.3f} {max(each.seconds):9.3f} {ratio:>8} "
                  f"{each.aggregation_peak_rss / 1e6:12.0f} {servers:>12}")  # fmt: skip


def one_turn(way: str, edges: int, size: int, rounds: int, timeout: float) -> RoundTimes:
    """Rounds of one contestant. What fails is told in ``error``, and whatever was started is ended."""
    runs: dict[str, Callable[[int, int, int, float], RoundTimes]] = {
        "heliograph": heliograph_rounds,
        "deployed": flower_deployed,
        "grpc-bidi": flower_bidi,
    }
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    try:
        return runs[way](edges, size, rounds, timeout)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return RoundTimes(error=f"failed: {error}")
    finally:
        end_all()


def heliograph_rounds(edges: int, size_bytes: int, rounds: int, timeout: float = 600.0) -> RoundTimes:
    """Heliograph's echo rounds, in a process of the project's environment. Raises RuntimeError where they fail."""
    own = ROOT / ".venv" / "bin" / "python"
    argv = [str(own) if own.exists() else sys.executable, "-m", "heliograph.simulations.benchmarks.echo", "--json"]
    argv += ["--edges", str(edges), "--size", str(size_bytes), "--rounds", str(rounds)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"heliograph.simulations.benchmarks.echo\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return RoundTimes(told["seconds"], told["aggregation_peak_rss"])


def flower_deployed(edges: int, size: int, rounds: int, timeout: float) -> RoundTimes:
    """A superlink, a supernode for each participant, ``flwr run``. Raises RuntimeError with the end of their logs."""
    package = HOME / "app" / "echo_app"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "app.py").write_text(APP)
    (HOME / "app" / "pyproject.toml").write_text(PROJECT % (edges, size, rounds + WARM_UP, OUT))
    link, *ports = free_ports(edges + 1)
    address = f"127.0.0.1:{link}"
    (HOME / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "{address}"\ninsecure = true\n'
    )
    server = start("flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(link),
                   "--disable-runtime-dependency-installation")  # fmt: skip
    wait_for(lambda: listening(link), 60, server)
    for port in ports:
        start("flower-supernode", "--insecure", "--superlink", address, "--port", str(port))
    with Watch(server, "flwr-serverapp") as watch:
        submitted = start("flwr", "run", str(HOME / "app"), "bench")
        wait_for(lambda: submitted.poll() == 0, 60, submitted)
        return watch.result(rounds, timeout)


def flower_bidi(edges: int, size: int, rounds: int, timeout: float) -> RoundTimes:
    """``start_server``, ``start_client`` for each participant. Raises RuntimeError with the end of their logs."""
    (HOME / "server.py").write_text(BIDI_SERVER)
    (HOME / "client.py").write_text(BIDI_CLIENT)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    server = start("python", "server.py", address, str(edges), str(size), str(rounds + WARM_UP), str(OUT))
    with Watch(server, "server.py") as watch:
        for _ in range(edges):
            start("python", "client.py", address)
        return watch.result(rounds, timeout)


def ensure_flower(version: str) -> None:
    """Flower in its own virtual environment below build/, made anew where it is another version."""
    if not any(VENV.glob(f"lib/*/site-packages/flwr-{version}.dist-info")):
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        subprocess.run([VENV / "bin" / "pip", "install", "--quiet", f"flwr=={version}", "numpy"], check=True)


def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Starts a program of Flower's environment, which finds its own helpers by PATH; its log goes to ``HOME``."""
    env = {**os.environ, "PATH": f"{VENV / 'bin'}:{os.environ.get('PATH', '')}", "FLWR_HOME": str(HOME)}
    env |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    with (HOME / f"{program}.log").open("ab") as log:
        return subprocess.Popen([VENV / "bin" / program, *arguments], env=env, cwd=HOME, stdout=log, stderr=log)


class Watch:
    """Notes five times a second what a server's process tree holds resident (Linux)."""

    def __init__(self, server: subprocess.Popen[bytes], aggregator: str) -> None:
        self._server = server
        self._aggregator = aggregator
        self._peak = RoundTimes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def result(self, rounds: int, timeout: float) -> RoundTimes:
        """Waits for the times of closing that the server writes, and counts those after the warm-up."""
        wait_for(OUT.exists, timeout, self._server)
        closed = json.loads(OUT.read_text())
        if isinstance(closed, str):
            raise RuntimeError(f"Flower's server: {closed}")
        self._peak.seconds = [after - before for before, after in itertools.pairwise(closed)][-rounds:]
        return self._peak

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            total = high = 0
            for pid in [self._server.pid, *descendants(self._server.pid)]:
                with contextlib.suppress(OSError, KeyError, ValueError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    told = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
                    total += int(told["VmRSS"].split()[0]) * 1024
                    if self._aggregator in Path(f"/proc/{pid}/cmdline").read_text():
                        high = int(told["VmHWM"].split()[0]) * 1024
            # the kernel keeps each process's peak; that of the sum is only sampled
            self._peak.add(RoundTimes(aggregation_peak_rss=high, server_peak_rss=max(total, high)))


def descendants(root: int) -> list[int]:
    """Processes below ``root`` that have not ended."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            pid, rest = place.read_text().split(" (", 1)
            state, parent = rest.rsplit(") ", 1)[1].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(pid))
    found, left = [], [root]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def end_all() -> None:
    """Ends everything this process has started, and everything that started, until nothing is left."""
    while left := descendants(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def wait_for(done: Callable[[], bool], timeout: float, needed: subprocess.Popen[bytes]) -> None:
    """Waits until ``done()``. Raises RuntimeError with the end of all logs where ``needed`` ends, or in time."""
    until = time.monotonic() + timeout
    while not done():
        ended = needed.poll() is not None and not done()
        if ended or time.monotonic() > until:
            logs = "".join(f"\n{log.name}: {log.read_text()[-800:]}" for log in sorted(HOME.glob("*.log")))
            raise RuntimeError(f"Flower {'ended early' if ended else f'took more than {timeout:g} s'}{logs}")
        time.sleep(0.05)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def number_of_bytes(text: str) -> int:
    """``10MB`` as 10,000,000, whole float32. Raises SystemExit where it is no size."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kMG]?B)?", text.strip())
    if match is None:
        raise SystemExit(f"--sizes: expected sizes like 250000, 1MB or 1.5GB, got {text!r}")
    return int(float(match[1]) * {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}[match[2] or "B"]) // 4 * 4


if __name__ == "__main__":
    sys.exit(main())
