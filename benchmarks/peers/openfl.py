"""OpenFL with a task runner for NumPy arrays, over gRPC without TLS: ``fx aggregator start``, and ``fx collaborator
start`` for each participant. A collaborator without a task polls again after ten seconds."""

from __future__ import annotations

import re

from benchmarks.declaration import Samples
from benchmarks.peers.environment import IDLE_AFTER, Environment, free_ports
from benchmarks.processes import MemoryWatch, resident

OPENFL = Environment("openfl", ("openfl==1.9", "numpy==2.2.6"))  # its reshape calls fail with newer NumPy
WARM_UP = 1

RUNNER = """
import json, os, time
import numpy as np
from openfl.federated.task.runner import TaskRunner
from openfl.utilities import TensorKey

size, rounds, out = %d, %d, "%s"

class NoOpTaskRunner(TaskRunner):
    def __init__(self, data_loader, **kwargs):
        super().__init__(data_loader=data_loader, **kwargs)
        self.model, self.received, self.right = {"w": np.zeros(size // 4, np.float32)}, [], True

    def echo(self, col_name, round_num, input_tensor_dict, **kwargs):
        array = input_tensor_dict["w"]
        self.received.append(time.perf_counter())
        self.right = self.right and bool((array == len(self.received) - 1).all())
        if col_name == "c1" and len(self.received) == rounds:
            with open(out + ".new", "w") as file:
                json.dump(self.received if self.right else "an update was not counted", file)
            os.rename(out + ".new", out)
        self.model = {"w": np.asarray(array + 1, np.float32)}
        return {TensorKey("w", col_name, round_num, False, ("trained",)): self.model["w"],
                TensorKey("loss", col_name, round_num, True, ("metric",)): np.array(1.0)}, {}

    def get_required_tensorkeys_for_function(self, func_name, **kwargs):
        return [TensorKey("w", "GLOBAL", 0, False, ("model",))]

    def get_tensor_dict(self, with_opt_vars=False):
        return dict(self.model)

    def set_tensor_dict(self, tensor_dict, with_opt_vars=False):
        self.model = dict(tensor_dict)

    def get_train_data_size(self):
        return 10

    get_valid_data_size = get_train_data_size

    def nothing(self, *arguments, **kwargs):
        pass

    reset_opt_vars = initialize_globals = set_optimizer_treatment = load_native = save_native = nothing
    initialize_tensorkeys_for_functions = nothing
"""
PLAN = {
    r"rounds_to_train: \d+": "rounds_to_train: {rounds}",
    r"agg_port: \d+": "agg_port: {port}",
    r"use_tls: true": "use_tls: false",
    r"require_client_auth: true": "require_client_auth: false",
    r"use_delta_updates: true": "use_delta_updates: false",
    # with checkpoints, a round needs the score of a validation, and this measurement has no validation
    r"persist_checkpoint: true": "persist_checkpoint: false",
    r"task_groups:\n(?s:.*?)\n  template": "task_groups:\n    - {{name: learning, percentage: 1.0, tasks: [train]}}\n"
    "  template",
}  # fmt: skip
TASKS = "\ntasks:\n  train: {function: echo, kwargs: {metrics: [loss]}}\n"


def workspace(edges: int, size: int, rounds: int, timeout: float = 540.0) -> Samples:
    """Measure an aggregator and collaborators of a workspace made from the template ``no-op``. Raises RuntimeError if
    it fails.

    A round lasts from a participant's receipt of one global model to its receipt of the next. A collaborator starts
    with its first task; ``idle`` is the memory of one that has done it and waits for the others.
    """
    peer = OPENFL.new_run()
    peer.run(90, "fx", "workspace", "create", "--prefix", str(peer.folder / "work"), "--template", "no-op")
    peer.folder /= "work"
    total = rounds + WARM_UP + 1
    (peer.folder / "src" / "task_runner.py").write_text(RUNNER % (size, total, peer.out))
    plan = (peer.folder / "plan" / "plan.yaml").read_text()
    for pattern, words in PLAN.items():
        plan = re.sub(pattern, words.format(rounds=total, port=free_ports(1)[0]), plan)
    (peer.folder / "plan" / "plan.yaml").write_text(plan + TASKS)
    names = [f"c{number + 1}" for number in range(edges)]
    (peer.folder / "plan" / "cols.yaml").write_text(f"collaborators: [{', '.join(names)}]\n")
    (peer.folder / "plan" / "data.yaml").write_text("".join(f"{name},{name}\n" for name in names))
    peer.run(90, "fx", "plan", "initialize", "-a", "127.0.0.1")
    server = peer.start("fx", "aggregator", "start")
    with MemoryWatch([server.pid], "aggregator start") as watch:
        first = peer.start("fx", "collaborator", "start", "-n", names[0])
        peer.settle(3 * IDLE_AFTER)
        idle = resident(first.pid)
        for name in names[1:]:
            peer.start("fx", "collaborator", "start", "-n", name)
        return peer.samples(watch, rounds, idle, timeout, lambda: peer.out.exists() or server.poll() is None)
