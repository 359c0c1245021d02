"""Modules that importing a part of Heliograph must not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"numpy", "scipy", "safetensors", "sklearn", "torch", "tensorflow", "keras", "plotext"}


@pytest.mark.parametrize(
    "module",
    [
        "heliograph",
        "heliograph.edge_agent.agent",
        "heliograph.coordinator.coordinator",
        "heliograph.cli.main",
        "heliograph.blocking_client",
        "heliograph.client",
        "heliograph.federated",
        "heliograph.local.cluster",
    ],
)
def test_neither_numpy_nor_a_framework_is_loaded(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("module", [
    "heliograph.coordinator.coordinator", "heliograph.coordinator.kubernetes.client",
    "heliograph.coordinator.kubernetes.list_watch", "heliograph.edge_agent.agent", "heliograph.cli.main",
    "heliograph.bus.nats.connection",
])  # fmt: skip
def test_the_library_of_kubernetes_is_loaded_by_a_connection_alone(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{'kubernetes', 'aiohttp.client', 'yarl'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_a_connection_to_nats_loads_what_only_websockets_need_when_it_is_used() -> None:
    code = (
        "import sys, heliograph.bus.nats.connection, nats.aio.transport as transport\n"
        "print('aiohttp.client' in sys.modules)\n"
        "print(transport.aiohttp.ClientSession.__name__, 'aiohttp.client' in sys.modules)\n"
        "import aiohttp.web; print(aiohttp.ClientSession is transport.aiohttp.ClientSession, aiohttp.web.Response)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:4] == ["False", "ClientSession", "True", "True"]


def test_the_agent_loads_nothing_of_the_coordinator_or_the_workers() -> None:
    code = "import sys, heliograph.edge_agent.agent; print(*(name for name in sys.modules if 'heliograph.' in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    floors = {name.split(".")[1] for name in done.stdout.split()}
    assert floors <= {"bus", "core", "edge_agent", "incremental", "labelling"}, floors


@pytest.mark.parametrize("module", ["heliograph.client", "heliograph.workers.train", "heliograph.workers.infer"])
def test_a_client_and_a_worker_start_without_the_kinds_of_jobs(module: str) -> None:
    """The contract's two hundred models cost a third of a start: each process imports those that it uses."""
    code = f"import sys, {module}; print(*(name.rpartition('.')[2] for name in sys.modules if '.contract.' in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    jobs = {"federated_task", "joint_inference_service", "incremental_learning_job", "pair_training_job",
            "triggers", "job_requests"}  # fmt: skip
    assert jobs.isdisjoint(done.stdout.split())


def test_an_agent_without_tasks_loads_nothing_for_them() -> None:
    """An idle agent fits a small machine: what tasks, data sets, queues and loops need comes with the first of them."""
    code = (
        "import sys, heliograph.edge_agent.agent\n"
        "from heliograph.bus.contract.topics import REPORT, TASK\n"
        "TASK.validate({'edge': 'edge-1', 'generation': {'epoch': 1, 'n': 1}, 'tasks': []}, '')\n"
        "REPORT.validate({'edge': 'edge-1', 'observed': {'epoch': 1, 'n': 1}}, '')\n"
        "print(*(name.removeprefix('heliograph.') for name in sys.modules if name.startswith('heliograph.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    of_payloads = ("worker_tasks", "task_parts", "labels", "learning", "pairs", "rounds", "inference")
    of_resources = ("dataset", "label_queue", "model", "federated_task", "incremental_learning_job")
    contract = {f"bus.contract.payloads.{name}" for name in of_payloads}
    contract |= {f"bus.contract.resources.{name}" for name in of_resources}
    readers = {"edge_agent.datasets.indexing", "bus.contract.onnx_file", "bus.contract.tflite_file"}
    assert loaded.isdisjoint(contract | readers | {"edge_agent.edge_loops", "labelling", "incremental"})


def test_an_idle_agent_loads_nothing_that_it_may_never_do() -> None:
    """Both transports, and the options of ``up``: no blobs, no keys, no devices that number, no launch of a worker."""
    code = (
        "import sys, heliograph.cli.agent_process, heliograph.edge_agent.agent, heliograph.bus.nats.bus\n"
        "import heliograph.bus.mqtt.bus, heliograph.edge_agent.devices.session\n"
        "import heliograph.edge_agent.process_launcher\n"
        "print(*(name for name in sys.modules if vars(sys.modules[name]).get('__file__')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = ("bus.contract.accounts", "bus.contract.launch_permissions", "bus.contract.package_signature",
            "bus.nats.blob_transfers", "bus.nats.blobs", "bus.nats.bulk", "bus.nats.key_value", "bus.nats.mqtt_streams",
            "bus.nats.store_use", "bus.nats.stream_copying", "bus.nats.streams", "bus.nats.worker_issuer",
            "edge_agent.datasets.tar_members", "edge_agent.devices.mapping_file",
            "edge_agent.devices.own_events", "edge_agent.devices.presets", "edge_agent.recording.recorder",
            "edge_agent.pod_launcher", "edge_agent.worker_logins")  # fmt: skip
    theirs = {"aiohttp", "http.client", "nats.js.client", "nats.js.kv", "numpy", "tomllib", "urllib.request"}
    assert {f"heliograph.{name}" for name in ours}.isdisjoint(done.stdout.split())
    assert theirs.isdisjoint(done.stdout.split())


def test_a_topic_among_others_loads_no_payload() -> None:
    code = (
        "import sys; from heliograph.bus.contract.topics import CANDIDATE, PAIR_RESULT, TASK; "
        "assert TASK in {TASK: 1} and TASK not in (CANDIDATE, PAIR_RESULT); "
        "print(*(name for name in sys.modules if '.contract.payloads.' in name))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
