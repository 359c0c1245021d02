"""Requests about models, at a registry in memory: answers, moves at once, and signatures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.model_requests import EdgeDeployment
from heliograph.bus.contract.model_statement import check_signature, files_in
from heliograph.bus.contract.registry import declared, parse_resource
from heliograph.bus.contract.resources import Model, ModelVersion, Resource, WeightsRef, resolve
from heliograph.bus.contract.resources.rollout import Rollout
from heliograph.bus.contract.weights_file import write
from heliograph.bus.port import Port
from heliograph.coordinator.edges.view import View
from heliograph.coordinator.feature import ControllerContext, Feature
from heliograph.coordinator.registry.controller import ModelController
from heliograph.coordinator.registry.model_versions import ModelVersions
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Refused
from heliograph.core.failures import Failures
from heliograph.core.signing import Signer
from heliograph.core.tasks import Background
from heliograph.core.world import World

SPEC = {"licence": "Apache-2.0", "description": "ten digits", "framework": "torch",
        "inputs": [{"dtype": "float32", "shape": [-1, 64]}], "labelSchema": {"version": 2, "classes": ["a", "b"]},
        "outputs": [{"dtype": "float32", "shape": [-1, 2]}]}  # fmt: skip


class Running(Feature[Resource]):
    """A feature that runs the model on two edges."""

    def deployments(self, model: Model) -> list[EdgeDeployment]:
        return [EdgeDeployment(edge="e-2", service="s", role="infer", state="pending"),
                EdgeDeployment(edge="e-1", service="s", role="infer", state="deployed", version=1)]  # fmt: skip


@dataclass
class Desk:
    """The registry, and what it has made known."""

    store: ResourceStore
    signer: Signer | None
    bus: Any
    written: int = 0
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.versions = ModelVersions(self.bus, self.store, self.lock, self.save, self.signer)
        context = ControllerContext(
            Port(self.bus, World(), "cloud/coordinator/1"), self.store, self.versions, Background(print), View,
            self.lock, lambda resource: None, self.write_desired, print, print, Failures(pytest.fail), pytest.fail,
            features=lambda: [Running(context, Resource)],
        )  # fmt: skip
        self.registry = ModelController(context, Model)

    def lock(self, plural: str, name: str) -> asyncio.Lock:
        return self.locks.setdefault(f"{plural}/{name}", asyncio.Lock())

    async def save(self, model: Model) -> None:
        known = self.store.get(Model, model.name) is not None
        await (self.store.put(model) if known else self.store.create(model))

    async def write_desired(self) -> None:
        self.written += 1

    async def trained(self, number: int, **facts: Any) -> WeightsRef:
        ref = write({"w": np.full(2, number)}, Path("/nonexistent"))
        await self.versions.add("m", ModelVersion(version=0, weights=ref, job=f"u{number}", **facts))
        return ref

    async def ask(self, verb: str, **fields: Any) -> Any:
        declaration = declared().features["models"].own_verbs[verb]
        body = declaration.body.model_validate({"name": "m"} | fields if declaration.named else fields)
        model = self.store.get(Model, "m") if declaration.named else None
        return await self.registry.answer(verb, body, model, "ann")

    @property
    def model(self) -> Model:
        found = self.store.get(Model, "m")
        assert found is not None
        return found


async def _desk(signer: Signer | None) -> Desk:
    world = World()
    bus = connect(f"memory://registry-{world.new_id()}", world=world)
    await bus.open()
    desk = Desk(ResourceStore(await bus.kv("resources"), world), signer, bus)
    await desk.registry.prepare()
    model = parse_resource({"kind": "Model", "metadata": {"name": "m"}, "spec": SPEC})
    await desk.store.create(model)
    return desk


@pytest.fixture
async def desk() -> Desk:
    return await _desk(Signer.made(World()))


async def test_a_version_records_what_its_model_says_and_is_signed(desk: Desk) -> None:
    ref = await desk.trained(1, metrics={"accuracy": 0.9}, parent="p")
    version = desk.model.status.versions[0]
    assert (version.licence, version.description, version.version) == ("Apache-2.0", "ten digits", 1)
    assert (version.inputs[0].shape, version.outputs[0].shape) == ([-1, 64], [-1, 2])
    assert desk.model.status.label_schemas[version.label_schema].classes == ["a", "b"]
    assert desk.signer is not None and version.signature is not None
    trusted = {desk.signer.key_id: desk.signer.public_key}
    check_signature(version.signature, version.weights, trusted)
    with pytest.raises(Refused, match="a statement about weights"):
        check_signature(version.signature, ref.model_copy(update={"digest": "0" * 64}), trusted)
    name, files = files_in(version.signature.payload)
    export = await desk.ask("export", version=1)
    assert (name, files["model.json"]) == ("m", sha256(export.record.encode()).hexdigest())
    assert (export.public_key, export.labels.classes, export.framework) == (desk.signer.public_key, ["a", "b"], "torch")
    assert '"accuracy": 0.9' in export.record and '"parent": "p"' in export.record


async def test_versions_evaluation_and_deployment_are_told(desk: Desk) -> None:
    for number in range(1, 6):
        await desk.trained(number, metrics={"accuracy": number / 10}, round=number)
    await desk.ask("alias", alias="champion", version=4)
    found = await desk.ask("versions", limit=2)
    assert ([each.version for each in found.versions], found.deployed, found.before) == ([5, 4], 4, 4)
    rest = await desk.ask("versions", before=found.before)
    assert ([each.version for each in rest.versions], rest.before) == ([3, 2, 1], None)
    scored = (await desk.ask("evaluation")).versions
    assert [(each.version, each.metrics["accuracy"]) for each in scored] == [(5, 0.5), (4, 0.4), (3, 0.3), (2, 0.2),
                                                                             (1, 0.1)]  # fmt: skip
    assert [each.aliases for each in (await desk.ask("evaluation", alias="champion")).versions] == [["champion"]]
    everywhere = await desk.ask("deployment")
    assert ([each.edge for each in everywhere.edges], everywhere.counts) == (["e-1", "e-2"],
                                                                             {"deployed": 1, "pending": 1})  # fmt: skip
    assert [each.edge for each in (await desk.ask("deployment", state="pending")).edges] == ["e-2"]
    for fields, expected in (({"version": 9}, "1, 2, 3, 4, 5"), ({"alias": "blue"}, "champion")):
        with pytest.raises(Refused) as refused:
            await desk.ask("export", **fields)
        assert (refused.value.code, refused.value.expected) == ("no-version", expected)


async def test_of_two_who_move_an_alias_at_once_one_is_refused(desk: Desk) -> None:
    for number in range(1, 5):
        await desk.trained(number)
    await desk.ask("alias", alias="champion", version=1)
    moves = (desk.ask("alias", alias="champion", version=number, was=1) for number in (2, 3, 4))
    done = await asyncio.gather(*moves, return_exceptions=True)
    (won,) = [each for each in done if isinstance(each, Model)]
    lost = [each for each in done if isinstance(each, Refused)]
    number = won.status.aliases["champion"]
    assert [each.code for each in lost] == ["conflict"] * 2
    assert all(f"version {number}, which champion names now" in each.expected for each in lost)
    assert desk.model.status.aliases == {"champion": number} and len(desk.model.status.moves) == 2
    assert desk.written == 2  # one for each move, none for who was refused


async def test_a_moved_alias_is_deployed_before_the_answer_and_a_dry_run_moves_nothing(desk: Desk) -> None:
    for number in (1, 2):
        await desk.trained(number)
    tried = await desk.ask("alias", alias="champion", version=1, dry_run=True)
    assert (tried.status.aliases, desk.model.status.aliases, desk.written) == ({"champion": 1}, {}, 0)
    await desk.ask("rollback")
    deployed = resolve(desk.model)
    assert deployed is not None and (deployed.version, desk.written, desk.model.status.moves[0].by) == (1, 1, "ann")
    await desk.ask("alias", alias="champion", version=1)
    assert desk.written == 1  # where it is already
    seen = desk.model.metadata.resource_version
    with pytest.raises(Refused) as refused:
        await desk.ask("rollback", to=2, resource_version=f"{int(seen or 0) + 99}")
    assert refused.value.code == "conflict"


async def test_what_no_present_key_has_signed_is_signed_once_there_is_a_key(desk: Desk) -> None:
    unsigned = await _desk(None)
    await unsigned.trained(1)
    await unsigned.registry.reconcile()
    assert unsigned.model.status.versions[0].signature is None
    with pytest.raises(Refused, match="--signing-key"):
        await unsigned.ask("key")
    for signer in (Signer.made(World()), Signer.made(World())):  # the first key, and the one after it
        again = Desk(unsigned.store, signer, unsigned.bus)
        await again.registry.prepare()
        await again.registry.reconcile()
        signed = again.model
        version = signed.status.versions[0]
        assert version.signature is not None
        check_signature(version.signature, version.weights, {signer.key_id: signer.public_key})
        await again.registry.reconcile()
        assert again.model is signed
        key = await again.ask("key")
        assert (key.public_key, key.key_id) == (signer.public_key, signer.key_id)


async def test_declared_weights_are_signed_and_other_ones_anew(desk: Desk) -> None:
    assert desk.signer is not None
    trusted = {desk.signer.key_id: desk.signer.public_key}
    for number in (1, 2):
        ref = write({"w": np.full(2, number)}, Path("/nonexistent"))
        spec = desk.model.spec.model_copy(update={"weights": ref})
        await desk.store.put(desk.model.model_copy(update={"spec": spec}))
        await desk.registry.reconcile()
        found = resolve(desk.model)
        assert found is not None and found.version == 0 and found.signature is not None
        check_signature(found.signature, ref, trusted)
        assert (await desk.ask("export")).version.weights.inline == ref.inline
        assert (await desk.ask("versions")).versions[0].weights.inline is None  # a list has no room for bytes


def _file(number: int) -> dict[str, Any]:
    return write({"w": np.full(2, number)}, Path("/nonexistent")).model_dump(mode="json", exclude_none=True)


async def test_a_registered_file_is_a_version_with_what_the_file_says_of_itself(desk: Desk) -> None:
    await desk.trained(1)
    told = {"inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 3]}],
            "label_schema": {"classes": ["cat", "dog"]}}  # fmt: skip
    await desk.ask("register", weights=_file(2), parent=1, metrics={"accuracy": 0.9}, dry_run=True, **told)
    assert len(desk.model.status.versions) == 1
    written = desk.written
    await desk.ask("register", weights=_file(2), parent=1, metrics={"accuracy": 0.9}, **told)
    first, second = desk.model.status.versions
    assert (second.version, second.parent, second.metrics) == (2, first.weights.digest, {"accuracy": 0.9})
    assert (second.inputs[0].name, second.outputs[0].shape) == ("x", [-1, 2]), "outputs are those of the document"
    assert desk.model.status.label_schemas[second.label_schema].classes == ["a", "b"], "the document declares them"
    assert second.signature is not None and desk.written == written + 1
    deployed = resolve(desk.model)
    assert deployed is not None and deployed.version == 2
    await desk.ask("register", weights=_file(2))
    assert len(desk.model.status.versions) == 2, "the same file again"
    await desk.ask("register", weights=_file(3), deploy=False)
    deployed = resolve(desk.model)
    assert deployed is not None and (deployed.version, desk.model.status.aliases) == (2, {"champion": 2})


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"weights": {"digest": "0" * 64, "size": 4, "bucket": "models"}}, "a file of the bucket models"),
        ({"weights": {"digest": "0" * 64, "size": 4, "bucket": "uploads-edge-1"}}, "a file of the bucket models"),
        ({"weights": {**_file(1), "size": 1}}, "the bytes of inline"),
        ({"weights": {**_file(1), "format": "onnx"}}, "an ONNX model in one piece"),
        ({"weights": _file(1), "parent": 7}, "parent"),
        ({"weights": _file(1), "resource_version": "999"}, "the stored version"),
    ],
)
async def test_what_is_no_file_of_a_version_is_refused_and_changes_nothing(
    desk: Desk, fields: dict[str, Any], why: str
) -> None:
    before = desk.model
    with pytest.raises(Refused, match=why):
        await desk.ask("register", **fields)
    assert desk.model is before


async def test_a_job_that_tries_its_candidate_ends_the_rollout_of_a_file(desk: Desk) -> None:
    await desk.trained(1)
    await desk.ask("register", weights=_file(2), deploy=False)
    await desk.ask("rollout", version=2, canary={"share": 0.5})
    await desk.versions.try_out("m", Rollout(version=1, time="2026-01-01T00:00:00Z"))
    (told,) = desk.model.status.conditions
    assert (told.reason, told.message) == ("RolledBack", "version 2: a job tries another version")
    assert desk.model.status.rollout is not None and desk.model.status.rollout.version == 1
