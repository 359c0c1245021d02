"""A node with trusted keys serves signed models alone; what is not signed is refused with the reason, and the worker
goes on with its earlier model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.model_statement import signed
from heliograph.bus.contract.payloads import (
    BigModelTask,
    CandidateModel,
    Desired,
    Generation,
    InferTask,
    PackageSpec,
    ScriptSpec,
    TrainTask,
)
from heliograph.bus.contract.resources import ModelVersion, WeightsRef
from heliograph.core.signing import Signer
from heliograph.core.world import World
from heliograph.edge_agent.code_digest import code_digest_of
from heliograph.edge_agent.code_roots import CodeRoot, locate
from heliograph.edge_agent.model_trust import ModelTrust
from heliograph.edge_agent.reconcile import Assign, Fetch, Hold, Launch, Running, decide


def _weights(number: int) -> WeightsRef:
    return WeightsRef(digest=f"{number:064x}", size=8, bucket="models")


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.made(World())


@pytest.fixture
def trust(signer: Signer) -> ModelTrust:
    return ModelTrust({signer.key_id: signer.public_key})


def _task(number: int, signer: Signer | None, role: Any = InferTask, **changes: Any) -> Any:
    version = ModelVersion(version=number, weights=_weights(number))
    signature = signed("m", version, None, signer).signature if signer is not None else None
    fields = {"worker": "s-infer", "job": "s", "job_uid": "u", "generation": 1, "model": version.weights,
              "script": ScriptSpec(boot_file="serve.py"), "signature": signature}  # fmt: skip
    return role(**(fields | changes))


def test_a_model_is_served_only_with_a_trusted_signature_about_it(signer: Signer, trust: ModelTrust) -> None:
    assert trust.objection(_task(1, signer)) == trust.objection(_task(1, signer, BigModelTask)) == ""
    assert trust.objection(_task(1, signer, model=None)) == ""  # the script makes its own
    other = Signer.made(World())
    foreign = _task(1, other)
    assert f"one by {other.key_id[:12]}" in trust.objection(foreign)
    assert "no signature" in trust.objection(_task(1, None))
    of_another = _task(1, signer, signature=_task(2, signer).signature)
    assert "expected a statement about weights 000000000000" in trust.objection(of_another)
    changed = foreign.signature.model_copy(
        update={"signatures": (foreign.signature.signatures[0].model_copy(update={"keyid": signer.key_id}),)}
    )
    assert "were changed" in trust.objection(_task(1, signer, signature=changed))
    other_type = signer.sign("text/plain", foreign.signature.payload)
    assert "payloadType" in trust.objection(_task(1, signer, signature=other_type))
    for payload in (b"{}", b"[]", b"[" * 5000, b"\xff", b'{"_type": "https://in-toto.io/Statement/v1"}'):
        statement = signer.sign("application/vnd.in-toto+json", payload)
        assert "another statement" in trust.objection(_task(1, signer, signature=statement))


def _applied(trust: ModelTrust, task: InferTask) -> InferTask:
    desired = Desired(edge="edge-1", generation=Generation(epoch=1, n=1), tasks=[task])
    (found,) = trust.applied(desired).tasks
    assert isinstance(found, InferTask) and found.candidate is not None
    return found


def test_a_candidate_on_trial_needs_a_signature_too(signer: Signer, trust: ModelTrust) -> None:
    good = CandidateModel(model=_weights(2), number=2, signature=_task(2, signer).signature)
    task = _task(1, signer, candidate=good)
    assert _applied(trust, task) is task
    unsigned = _task(1, signer, candidate=good.model_copy(update={"signature": None}))
    assert "model 000000000000 has no signature" in _refusal(_applied(trust, unsigned))
    of_another = _task(1, signer, candidate=good.model_copy(update={"signature": task.signature}))
    assert "expected a statement about weights" in _refusal(_applied(trust, of_another))
    assert trust.objection(unsigned) == trust.objection(of_another) == "", "what serves is signed"
    assert _applied(ModelTrust({}), unsigned) is unsigned
    keys = {signer.key_id: signer.public_key}
    of_node = ModelTrust(keys, lambda task: task.model_copy(update={"candidate": None}))
    assert _refusal(_applied(of_node, unsigned)) == "", "this node has trained it"


def _refusal(task: InferTask) -> str:
    assert task.candidate is not None
    return task.candidate.refused


def test_a_worker_starts_beside_a_refused_candidate_which_is_not_fetched(
    signer: Signer, trust: ModelTrust, tmp_path: Path
) -> None:
    (tmp_path / "serve.py").write_text("")
    roots = (CodeRoot.parse(str(tmp_path)),)
    task = _applied(trust, _task(1, signer, candidate=CandidateModel(model=_weights(2), number=2)))

    def actions(models: set[str], *running: Running) -> list[Any]:
        by_name = {each.worker: each for each in running}
        return decide([task], by_name, {}, models, roots, objection=trust.objection)

    assert actions(set()) == [Launch(task), Fetch(_weights(1))]
    assert actions({_weights(1).digest}) == [Launch(task)]
    before = _task(1, signer)
    serving = Running("s-infer", "u", "ready", before, before)
    assert actions({_weights(1).digest}, serving) == [Assign(task)], "the worker is told, and serves on"


def test_training_and_nodes_without_keys_are_not_concerned(signer: Signer, trust: ModelTrust) -> None:
    training = TrainTask(worker="w", job="j", job_uid="u", round=1, model=_weights(1))
    assert trust.objection(training) == ModelTrust({}).objection(_task(1, None)) == ""


def test_a_task_with_a_bad_signature_is_refused_before_its_model_is_fetched(
    signer: Signer, trust: ModelTrust, tmp_path: Path
) -> None:
    (tmp_path / "serve.py").write_text("")
    roots = (CodeRoot.parse(str(tmp_path)),)
    good, bad = _task(1, signer), _task(2, None)

    def actions(task: Any, *running: Running) -> list[Any]:
        by_name = {each.worker: each for each in running}
        return decide([task], by_name, {}, {_weights(1).digest}, roots, objection=trust.objection)

    assert actions(good) == [Launch(good)]
    (held,) = actions(bad)
    assert isinstance(held, Hold) and held.forbidden and "no signature" in held.reason
    serving = Running("s-infer", "u", "ready", good, good)
    (held,) = actions(bad, serving)  # neither stopped nor assigned anything: it goes on answering
    assert isinstance(held, Hold)
    assert actions(_task(2, signer), serving) == [Fetch(_weights(2))]
    assert [type(each) for each in actions(good, Running("s-infer", "u", "ready", None, good))] == [Assign]


def test_the_digest_of_code_changes_with_the_code_that_a_script_may_import(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "inner").mkdir(parents=True)
    (project / "train.py").write_text("import inner.net")
    (project / "inner" / "net.py").write_text("a = 1")
    roots = (CodeRoot.parse(str(tmp_path)),)
    script = ScriptSpec(boot_file="project/train.py")

    def digest(**changes: Any) -> str:
        named = script.model_copy(update=changes)
        task = TrainTask(worker="w", job="j", job_uid="u", round=1, script=named)
        return code_digest_of(task, locate(named, roots))

    first = digest()
    assert len(first) == 64 and digest() == digest(directory="project") == first
    (project / "data.csv").write_text("1,2")
    (project / ".venv").mkdir()
    (project / ".venv" / "x.py").write_text("")
    (project / "env" / "lib").mkdir(parents=True)
    (project / "env" / "pyvenv.cfg").write_text("")
    (project / "env" / "lib" / "x.py").write_text("")
    (project / "loop.py").symlink_to(project / "loop.py")
    assert digest() == first
    (project / "inner" / "net.py").write_text("a = 2")
    second = digest()
    assert second != first
    (project / "inner" / "net.py").rename(project / "inner" / "other.py")
    assert digest() not in (first, second)
    assert digest(directory="..") == digest(boot_file="gone.py") == ""
    for number in range(1001):
        (project / f"x{number}.py").write_text("")
    alone = digest()
    (project / "x0.py").write_text("changed")
    assert digest() == alone  # too many: the script alone
    task = TrainTask(worker="w", job="j", job_uid="u", round=1)
    assert code_digest_of(task, None) == ""
    package = PackageSpec(algorithm="a", digest="e" * 64, size=1)
    assert code_digest_of(task.model_copy(update={"package": package}), None) == "e" * 64
