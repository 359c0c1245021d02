"""Data of heliograph 0.1, recorded by ``record_0_1.py``, is still read and leads to the same decisions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract import topics
from heliograph.bus.contract.event import decode
from heliograph.bus.contract.payloads import AggregateTask, Aggregation, Desired, EvaluateTask, Report, TrainTask
from heliograph.bus.contract.resources import Dataset, Edge, FederatedTask, Metadata, Model
from heliograph.bus.contract.topics import AGGREGATION, EVALUATION, MODEL_UPDATE
from heliograph.coordinator.edges.reported import edge_of
from heliograph.coordinator.edges.view import EdgeView, View
from heliograph.coordinator.features.federated import state_machine
from heliograph.coordinator.features.federated.desired_tasks import desired_tasks
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import HeliographError
from heliograph.core.world import World
from heliograph.edge_agent.code_roots import CodeRoot
from heliograph.edge_agent.journal import Journal
from heliograph.edge_agent.journal_writer import NewEvent
from heliograph.edge_agent.reconcile import Assign, Launch, Running, decide
from heliograph.edge_agent.shared_directory import SharedDirectory
from heliograph.edge_agent.state_migration import FORMAT
from heliograph.simulations.check.component_check import Component
from heliograph.testing import trace

RECORDED = Path(__file__).parent / "data" / "0.1"
BUCKETS: dict[str, dict[str, str]] = json.loads((RECORDED / "buckets.json").read_text())
NOW = "2026-01-01T00:00:00.000000Z"
FORMS = pytest.mark.parametrize("form", ["msgpack", "json"])


def _payload(topic: Any, name: str, form: str) -> Any:
    event = decode((RECORDED / "events" / f"{name}.{form}").read_bytes())
    return topic.validate(event.data, event.subject)


async def _store() -> ResourceStore:
    world = World()
    bus = connect(f"memory://recorded-{world.new_id()}", world=world)
    await bus.open()
    bucket = await bus.kv("resources")
    for key, value in BUCKETS["resources"].items():
        await bucket.put(key, value.encode())
    store = ResourceStore(bucket, world)
    assert await store.load() == []
    return store


async def test_every_stored_resource_is_read() -> None:
    store = await _store()
    (job,) = store.all(FederatedTask)
    assert (job.name, job.status.phase, job.status.step) == ("line", "Succeeded", "done")
    assert [each.counted for each in job.status.rounds] == [2, 2]
    (model,) = store.all(Model)
    assert job.status.model is not None
    assert model.status.versions[-1].weights.digest == job.status.model.digest
    (edge,) = (each for each in store.all(Edge) if each.name == "edge-1")
    assert edge.status.version == "0.1.0"
    assert store.get(Dataset, "data") is not None


async def test_a_job_that_was_running_goes_on_from_its_step() -> None:
    job = (await _store()).all(FederatedTask)[0]
    running = job.status.model_copy(update={"phase": "Running", "step": "training", "round": 2,
                                            "participants": ["edge-1", "edge-2"]})  # fmt: skip
    report = _payload(topics.REPORT, "report", "msgpack")
    view = View({name: EdgeView(name, True, report) for name in ("edge-1", "edge-2", "cloud")})
    task = job.model_copy(update={"status": running})
    wanted = desired_tasks(task, view)
    assert [type(each) for each in wanted["edge-1"]] == [TrainTask]
    assert [type(each) for each in wanted["cloud"]] == [AggregateTask, EvaluateTask]
    closed = _payload(AGGREGATION, "aggregation", "msgpack")
    assert state_machine.close(task, closed.model_copy(update={"job_uid": job.metadata.uid}), view, NOW) != task


def test_a_close_record_of_a_later_version_is_read() -> None:
    (key, text), *_ = BUCKETS["rounds"].items()
    tree = json.loads(text)
    tree["model"]["mirror"] = tree["signature"] = "new"
    assert Aggregation.from_json(json.dumps(tree)) == Aggregation.from_json(text), key


def test_every_close_record_is_read() -> None:
    records = [Aggregation.from_json(value) for value in BUCKETS["rounds"].values()]
    assert {each.round for each in records} <= {0, 1, 2}
    newest = max(records, key=lambda each: each.round)
    assert newest == _payload(AGGREGATION, "aggregation", "msgpack")


@FORMS
def test_an_agent_launches_and_assigns_the_documents_tasks(form: str, tmp_path: Path) -> None:
    desired: Desired = _payload(topics.TASK, "task-edge", form)
    assert (desired.edge, desired.unsupported) == ("edge-1", ())
    (task,) = desired.tasks
    assert isinstance(task, TrainTask)
    assert (task.round, task.is_due, task.dataset) == (2, True, "data")
    (tmp_path / "train.py").touch()
    report: Report = _payload(topics.REPORT, "report", form)
    here = ({each.name: each for each in report.datasets}, set[str](), (CodeRoot.parse(str(tmp_path)),))
    assert decide(desired.tasks, {}, *here) == [Launch(task)]
    assert decide(desired.tasks, {task.worker: Running(task.worker, task.job_uid, "ready")}, *here) == [Assign(task)]


@FORMS
def test_the_clouds_agent_aggregates_and_evaluates(form: str) -> None:
    aggregate, evaluate = _payload(topics.TASK, "task-cloud", form).tasks
    assert isinstance(aggregate, AggregateTask)
    assert (aggregate.algorithm, aggregate.collect.participants) == ("FedAvg", ["edge-1", "edge-2"])
    assert isinstance(evaluate, EvaluateTask)
    assert evaluate.is_due


@FORMS
def test_a_report_becomes_an_edge(form: str) -> None:
    report = _payload(topics.REPORT, "report", form)
    edge = edge_of(Edge(metadata=Metadata(name="edge-1")), report, True, 0, NOW)
    assert (edge.status.version, edge.status.datasets) == ("0.1.0", ["data"])
    assert "FedAvg" in report.offers.algorithms


@pytest.mark.parametrize("name", ["model-update", "aggregation", "evaluation", "report", "task-edge", "task-cloud"])
def test_both_encodings_say_the_same(name: str) -> None:
    topic = {"model-update": MODEL_UPDATE, "aggregation": AGGREGATION, "evaluation": EVALUATION,
             "report": topics.REPORT}.get(name, topics.TASK)  # fmt: skip
    assert _payload(topic, name, "json") == _payload(topic, name, "msgpack")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return the state directory of an agent of 0.1, with an update that waits for its upload."""
    copy = tmp_path / "state"
    shutil.copytree(RECORDED / "state", copy)
    return copy


async def test_an_agents_state_is_migrated_and_loses_nothing(state: Path) -> None:
    for _ in range(2):  # the second start migrates nothing
        journal = Journal(state / "journal.db", "edge-1", World())
        (kept,) = journal.read(0, 0, 10, 10**6).events
        update = MODEL_UPDATE.validate(decode(kept.body).data, kept.topic)
        file = await SharedDirectory(state / "workers").staged("line-edge-1", update.weights.digest)
        assert file is not None and file.stat().st_size == update.weights.size
        desired = topics.TASK.validate(decode(journal.load("desired")).data, "on disk")
        assert [each.worker for each in desired.tasks] == ["line-edge-1"]
        journal.close()
    assert not list(state.glob("workers/*/outbox"))


async def test_a_producer_of_0_1_goes_on_from_its_number_as_a_worker_and_as_a_device(state: Path) -> None:
    import sqlite3

    with sqlite3.connect(state / "journal.db") as connection:
        connection.execute("INSERT OR REPLACE INTO producers VALUES ('meter', 'life', 7)")
    for _ in range(2):
        journal = Journal(state / "journal.db", "edge-1", World())
        assert [journal.committed(f"{kind}/meter", "life") for kind in ("worker", "device")] == [7, 7]
        assert journal.accepts(NewEvent("event/label/job", b"x", 0, "device/meter", "life", 8))
        journal.close()
    with sqlite3.connect(state / "journal.db") as connection:
        assert not connection.execute("SELECT * FROM producers WHERE instr(producer, '/') = 0").fetchall()


async def test_a_migration_that_was_cut_off_is_finished_at_the_next_start(state: Path) -> None:
    (outbox,) = state.glob("workers/*/outbox")
    (first,) = outbox.iterdir()
    (outbox / ("b" * 64)).write_bytes(b"another")
    (staged := outbox.with_name("staged")).mkdir()
    first.rename(staged / first.name)  # the process was killed here
    Journal(state / "journal.db", "edge-1", World()).close()
    assert sorted(each.name for each in staged.iterdir()) == sorted([first.name, "b" * 64])


async def test_the_state_of_a_later_version_is_refused(state: Path) -> None:
    journal = Journal(state / "journal.db", "edge-1", World())
    journal.close()
    import sqlite3

    with sqlite3.connect(state / "journal.db") as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'version'", (str(FORMAT + 1),))
        connection.execute("UPDATE meta SET value = '9.9.0' WHERE key = 'written_by'")
    with pytest.raises(HeliographError) as refused:
        Journal(state / "journal.db", "edge-1", World())
    for words in (str(state), f"format {FORMAT + 1}", "heliograph 9.9.0", "Install heliograph 9.9.0 again"):
        assert words in str(refused.value)


@pytest.mark.parametrize(
    ("name", "component"),
    [("federated", "coordinator"), ("federated", "aggregation"), ("federated", "agent"), ("joint", "agent")],
)
async def test_a_component_publishes_the_same_as_0_1(name: str, component: Component) -> None:
    run = await trace(RECORDED / f"{name}.mcap").replay(component)
    assert run.published == run.recorded
    assert run.equal and run.recorded
