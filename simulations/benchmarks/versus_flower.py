"""Echo rounds of Flower and of Heliograph on this machine, in turns, each in its own virtual environment.

Every participant is a process of its own and returns the arrays it got plus one; all talk over loopback. Flower runs in
two ways: ``deployed``, as its documentation starts it today (flower-superlink, a flower-supernode for each participant,
``flwr run``), and ``grpc-bidi``, its deprecated streaming server (start_server and start_client).

A round is measured from the close of one aggregation to the close of the next, after a warm-up, and the result of the
last round is checked. Peak memory is that of the process that aggregates, which Flower and Heliograph both have; for
Flower also the sum over all its server processes, which Heliograph's broker has no part in here.

    python simulations/benchmarks/versus_flower.py --sizes 1MB,10MB --edges 4 --rounds 5
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
VENV = BUILD / "flower-venv"
WARM_UP = 2
"""Rounds of Flower before those that count; Heliograph's benchmark has its own."""
UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}

SERVER_APP = '''
import json, time
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client, server, closed = ClientApp(), ServerApp(), []

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
    edges, size, rounds = (context.run_config[name] for name in ("edges", "size", "rounds"))
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes=edges, min_available_nodes=edges)
    result = strategy.start(grid, ArrayRecord([np.zeros(size // 4, np.float32)]), num_rounds=rounds)
    assert (result.arrays.to_numpy_ndarrays()[0] == rounds).all(), "some round did not count"
    with open(context.run_config["out"], "w") as file:
        json.dump(closed, file)
'''
PROJECT = """
[project]
name = "echo-app"
version = "1.0.0"
description = "Returns the arrays it got plus one"
license = "Apache-2.0"
dependencies = ["flwr", "numpy"]
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "echo_app.app:server"
clientapp = "echo_app.app:client"
[tool.flwr.app.config]
edges = {edges}
size = {size}
rounds = {rounds}
out = "{out}"
"""
BIDI_SERVER = """
import json, sys, time
import numpy as np
import flwr
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAvg

edges, size, rounds = map(int, sys.argv[2:5])
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
assert (parameters_to_ndarrays(last[0])[0] == rounds).all(), "some round did not count"
with open(sys.argv[5], "w") as file:
    json.dump(closed, file)
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
    """Seconds of each round; peak resident bytes of the process that aggregates, and of all server processes at once."""

    seconds: list[float] = field(default_factory=list)
    aggregation_peak_rss: int = 0
    server_peak_rss: int = 0
    error: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1MB,10MB,100MB", help="bytes of the model: 250000, 1MB, 1.5GB, ...")
    parser.add_argument("--edges", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1, help="how often each takes its turn")
    parser.add_argument("--flower", choices=["deployed", "grpc-bidi", "both", "none"], default="both")
    parser.add_argument("--flower-version", default="1.41.0")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one turn")
    asked = parser.parse_args()
    ways = {"both": ["deployed", "grpc-bidi"], "none": []}.get(asked.flower, [asked.flower])
    if ways:
        ensure_flower(asked.flower_version)
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: Flower's orphans stay in this process's tree
    results: dict[str, dict[str, RoundTimes]] = {}
    for size in asked.sizes.split(","):
        table = results.setdefault(size, {})
        for _ in range(asked.repeats):
            for way in ["heliograph", *ways]:
                turn = one_turn(way, asked.edges, number_of_bytes(size), asked.rounds, asked.timeout)
                table[way] = merged(table.get(way), turn)
                print(f"  {size} {way}: {line(table[way])}", flush=True)
    print_table(results, asked.edges)
    BUILD.mkdir(exist_ok=True)
    document = {
        "flower": asked.flower_version,
        "edges": asked.edges,
        "results": {size: {way: asdict(each) for way, each in table.items()} for size, table in results.items()},
    }
    (BUILD / "versus_flower.json").write_text(json.dumps(document, indent=1))
    return any(each.error for table in results.values() for each in table.values())


def one_turn(way: str, edges: int, size: int, rounds: int, timeout: float) -> RoundTimes:
    """Rounds of one of the contestants. What fails is told in ``error``, and whatever was started is ended."""
    try:
        if way == "heliograph":
            return heliograph_rounds(edges, size, rounds, timeout)
        if way == "deployed":
            return flower_deployed(edges, size, rounds, timeout)
        return flower_bidi(edges, size, rounds, timeout)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return RoundTimes(error=str(error))
    finally:
        end_all()


def heliograph_rounds(edges: int, size_bytes: int, rounds: int, timeout: float = 600.0) -> RoundTimes:
    """Heliograph's echo rounds, in a process of the project's environment. Raises RuntimeError where they fail."""
    own = ROOT / ".venv" / "bin" / "python"
    argv = [str(own) if own.exists() else sys.executable, "-m", "heliograph.simulations.benchmarks.echo", "--json"]
    argv += ["--edges", str(edges), "--size", str(size_bytes), "--rounds", str(rounds)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"heliograph.simulations.benchmarks.echo failed: {done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return RoundTimes(told["seconds"], told["aggregation_peak_rss"])


def flower_deployed(edges: int, size: int, rounds: int, timeout: float) -> RoundTimes:
    """A superlink, a supernode for each participant and ``flwr run``, in fresh directories below build/."""
    home = BUILD / "flower-run"
    out = home / "closed.json"
    link, *ports = free_ports(edges + 1)
    app = home / "app" / "echo_app"
    app.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    project = PROJECT.format(edges=edges, size=size, rounds=rounds + WARM_UP, out=out)
    (home / "app" / "pyproject.toml").write_text(project)
    (app / "__init__.py").touch()
    (app / "app.py").write_text(SERVER_APP)
    address = f"127.0.0.1:{link}"
    connection = f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "{address}"\ninsecure = true\n'
    (home / "config.toml").write_text(connection)
    with flower(home) as start:
        server = start("flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(link),
                       "--disable-runtime-dependency-installation")  # fmt: skip
        wait_for(lambda: listening(link), server, 60)
        for port in ports:
            start("flower-supernode", "--insecure", "--superlink", address, "--port", str(port))
        with Watch(server.pid, "flwr-serverapp") as watch:
            submit = start("flwr", "run", str(home / "app"), "bench")
            wait_for(lambda: submit.poll() == 0, submit, 60)
            wait_for(out.exists, server, timeout)
            time.sleep(0.5)
    return watch.result(out, rounds)
