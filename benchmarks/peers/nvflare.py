"""NVFlare in its own proof-of-concept deployment: a server and a client process for each participant, gRPC with TLS,
and a FedAvg recipe for NumPy arrays."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from benchmarks.declaration import Samples
from benchmarks.peers.environment import Environment, listening
from benchmarks.processes import MemoryWatch, resident, tree

NVFLARE = Environment("nvflare", ("nvflare==2.9.0", "numpy==2.4.6"))
WARM_UP = 2
PORT = 8002
"""The server's port; the proof-of-concept deployment cannot use another."""

CLIENT = """
import json, os, sys, time
import nvflare.client as flare

rounds, out = int(sys.argv[1]), sys.argv[2]
flare.init()
first = flare.get_site_name() == "site-1"
received, right = [], True
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    received.append(time.perf_counter())
    arrays = model.params
    right = right and all((array == len(received) - 1).all() for array in arrays.values())
    if first and len(received) == rounds:
        with open(out + ".new", "w") as file:
            json.dump(received if right else "an update was not counted", file)
        os.rename(out + ".new", out)
    flare.send(flare.FLModel(params={name: array + 1 for name, array in arrays.items()}, metrics={"accuracy": 1.0}))
"""
RECIPE = """
import sys
import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe

edges, size, rounds, out, start = *map(int, sys.argv[1:4]), *sys.argv[4:6]
np.save(start, np.zeros(size // 4, np.float32))
recipe = NumpyFedAvgRecipe(name="echo", initial_ckpt=start, min_clients=edges, num_rounds=rounds,
                           train_script="client.py", train_args=f"{rounds} {out}")
recipe.export("jobs")
"""


def poc(edges: int, size: int, rounds: int, timeout: float = 540.0) -> Samples:
    """Measure ``nvflare poc start`` and ``nvflare job submit``. Raises RuntimeError if one fails.

    A round lasts from a participant's receipt of one global model to its receipt of the next.
    """
    if listening(PORT):
        raise RuntimeError(f"port {PORT} is in use, and NVFlare's server needs it")
    peer = NVFLARE.new_run()
    peer.environment = {"NVFLARE_POC_WORKSPACE": str(peer.folder / "poc")}
    (peer.folder / "client.py").write_text(CLIENT)
    (peer.folder / "recipe.py").write_text(RECIPE)
    counts = [str(edges), str(size), str(rounds + WARM_UP + 1)]
    peer.run(60, "python", "recipe.py", *counts, str(peer.out), str(peer.folder / "start.npy"))
    peer.run(60, "nvflare", "poc", "prepare", "-n", str(edges), "--force")
    peer.run(90, "nvflare", "poc", "start")
    peer.settle()
    idle = resident(_running("client_train")[0])
    with MemoryWatch(_running("server_train"), "runner_process") as watch:
        peer.run(60, "nvflare", "job", "submit", "-j", str(peer.folder / "jobs" / "echo"))
        return peer.samples(watch, rounds, idle, timeout, lambda: bool(_running("server_train")))


def _running(module: str) -> list[int]:
    """Return the descendant Python processes that run a module; the deployment's scripts leave them behind."""
    found = []
    for pid in tree(os.getpid())[1:]:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if any(word.endswith(module) for word in words):
                found.append(pid)
    return found
