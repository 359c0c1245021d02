"""Flower in both of its ways to run.

``deployed`` follows its current documentation: flower-superlink, a flower-supernode for each participant, ``flwr run``.
``streams`` is its deprecated server over gRPC streams: start_server and start_client.
"""

from __future__ import annotations

from benchmarks.declaration import Samples
from benchmarks.peers.environment import Environment, PeerRun, free_ports, listening
from benchmarks.processes import MemoryWatch, resident

FLOWER = Environment("flower", ("flwr==1.41.0", "numpy==2.4.6"))
WARM_UP = 2
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}

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
        result = closed if right else "an update was not counted"
    except Exception as error:
        result = repr(error)
    with open(out + ".new", "w") as file:
        json.dump(result, file)
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
    json.dump(closed if right else "an update was not counted", file)
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


def deployed(edges: int, size: int, rounds: int, timeout: float = 540.0) -> Samples:
    """Measure a superlink with a supernode for each participant and ``flwr run``. Raises RuntimeError if it fails."""
    peer = _new_run()
    app = peer.folder / "app"
    (app / "echo_app").mkdir(parents=True)
    (app / "echo_app" / "__init__.py").touch()
    (app / "echo_app" / "app.py").write_text(APP)
    (app / "pyproject.toml").write_text(PROJECT % (edges, size, rounds + WARM_UP, peer.out))
    link, *ports = free_ports(edges + 1)
    address = f"127.0.0.1:{link}"
    (peer.folder / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "{address}"\ninsecure = true\n'
    )
    server = peer.start("flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(link),
                         "--disable-runtime-dependency-installation")  # fmt: skip
    peer.wait(lambda: listening(link), 60, lambda: server.poll() is None)
    nodes = [peer.start("flower-supernode", "--insecure", "--superlink", address, "--port", str(port))
             for port in ports]  # fmt: skip
    peer.settle()
    idle = resident(nodes[0].pid)
    with MemoryWatch([server.pid], "flwr-serverapp") as watch:
        peer.run(60, "flwr", "run", str(app), "bench")
        return peer.samples(watch, rounds, idle, timeout, lambda: server.poll() is None)


def streams(edges: int, size: int, rounds: int, timeout: float = 540.0) -> Samples:
    """Measure ``start_server`` with a ``start_client`` for each participant. Raises RuntimeError if it fails.

    Rounds begin as soon as the participants have connected, so no participant is ever idle. ``idle`` is the memory of
    one participant shortly after its start.
    """
    peer = _new_run()
    (peer.folder / "server.py").write_text(BIDI_SERVER)
    (peer.folder / "client.py").write_text(BIDI_CLIENT)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    arguments = [address, str(edges), str(size), str(rounds + WARM_UP), str(peer.out)]
    server = peer.start("python", "server.py", *arguments)
    with MemoryWatch([server.pid], "server.py") as watch:
        first = peer.start("python", "client.py", address)
        peer.settle()
        idle = resident(first.pid)
        for _ in range(edges - 1):
            peer.start("python", "client.py", address)
        return peer.samples(watch, rounds, idle, timeout, lambda: peer.out.exists() or server.poll() is None)


def _new_run() -> PeerRun:
    peer = FLOWER.new_run()
    peer.environment = {"FLWR_HOME": str(peer.folder), **QUIET}
    return peer
