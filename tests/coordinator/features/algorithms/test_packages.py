"""Packages at the coordinator: proven in the background, refused with the reason, deleted when nothing names them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from heliograph.algorithm_files import Package, document_of
from heliograph.bus.contract.buckets import PACKAGES
from heliograph.bus.contract.payloads import Generation, Offer, Report
from heliograph.bus.contract.registry import parse_resource
from heliograph.bus.contract.resources import Algorithm, WeightsRef
from heliograph.bus.contract.topics import REQUEST
from heliograph.bus.transport import Bus
from heliograph.coordinator.edges.reported import algorithms_of
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.failures import Failures
from heliograph.requester import result_of
from heliograph.simulations.fleet.echo_workload import Echo
from heliograph.simulations.virtual.loop import VirtualLoop, run
from heliograph.simulations.virtual.virtual_cluster import VirtualCluster
from tests.packed import packed

PACKAGE = packed(parameters={"rate": {"type": "number", "default": 0.1}})
OTHER = packed({"train.py": b"print('another')"})


class Cloud:
    """A coordinator in virtual time, and an operator's connection to it."""

    def __init__(self, cluster: VirtualCluster, bus: Bus, directory: Path) -> None:
        self.cluster = cluster
        self.bus = bus
        self._directory = directory

    async def ask(self, verb: str, document: dict[str, Any]) -> Any:
        """Send a request; repeat it until a coordinator answers."""
        while True:
            try:
                topic = REQUEST.at(resource="algorithms", verb=verb)
                return result_of((await self.bus.request(topic, json.dumps(document).encode())).body)
            except Refused:
                raise
            except HeliographError:
                await asyncio.sleep(1)

    async def create(self, package: Package, *, inside: bool = True, verb: str = "create", **changes: Any) -> Any:
        """Create ``digits`` of a package, with other fields of ``spec.package`` where they are given."""
        document = document_of("digits", package, inline=inside)
        document["spec"]["package"] |= changes
        return await self.ask(verb, document)

    async def upload(self, content: bytes, digest: str = "") -> None:
        digest = digest or hashlib.sha256(content).hexdigest()
        file = self._directory / digest
        file.write_bytes(content)
        await (await self.bus.blobs(PACKAGES)).put(file, WeightsRef(digest=digest, size=max(1, len(content))))

    async def told(self) -> tuple[str, str, str]:
        """Return status, reason and message of ``digits``, once the coordinator has looked again."""
        await asyncio.sleep(5)
        status = (await self.ask("get", {"name": "digits"}))["status"]
        (ready,) = [each for each in status["conditions"] if each["type"] == "Ready"]
        assert (status.get("available") is not None) == (ready["status"] == "True")
        return ready["status"], ready["reason"], ready["message"]

    async def stored(self) -> list[str]:
        return await (await self.bus.blobs(PACKAGES)).digests()


@pytest.fixture
def in_cloud(tmp_path: Path) -> Callable[[Callable[[Cloud], Coroutine[Any, Any, None]]], None]:
    """Return ``in_cloud(test)``, which runs ``test(cloud)``."""

    def run_test(test: Callable[[Cloud], Coroutine[Any, Any, None]]) -> None:
        async def main(loop: VirtualLoop) -> None:
            cluster = VirtualCluster(loop, [], Echo(10), 1)
            await cluster.start()
            try:
                async with cluster.client() as bus:
                    await test(Cloud(cluster, bus, tmp_path))
            finally:
                await cluster.stop()

        run(main)

    return run_test


def test_a_package_inside_its_document_goes_where_every_edge_can_fetch_it(in_cloud: Any) -> None:
    async def test(cloud: Cloud) -> None:
        made = await cloud.create(PACKAGE)
        assert "inline" not in made["spec"]["package"]
        assert await cloud.told() == ("True", "Proven", f"package {PACKAGE.digest[:12]} is in the store")
        assert await cloud.stored() == [PACKAGE.digest]
        assert await cloud.create(PACKAGE) == await cloud.ask("get", {"name": "digits"})  # once more changes nothing

    in_cloud(test)


def test_a_package_that_comes_later_is_found_also_after_another_coordinator_began(in_cloud: Any) -> None:
    async def test(cloud: Cloud) -> None:
        await cloud.create(PACKAGE, inside=False)
        status, reason, message = await cloud.told()
        assert (status, reason) == ("False", "Missing")
        assert "upload it" in message
        cloud.cluster.kill("coordinator")
        cloud.cluster.start_process("coordinator")
        await cloud.upload(PACKAGE.content)
        assert (await cloud.told())[0] == "True"

    in_cloud(test)


LIES: list[tuple[dict[str, Any], str]] = [
    ({"digest": "0" * 64}, "digest"),
    ({"size": 5}, "size"),
    ({"entryPoint": "other.py"}, "entryPoint"),
    ({"entryPoint": "../train.py"}, "entryPoint"),
    ({"framework": "torch"}, "framework"),
    ({"inline": "UEsFBg=="}, "size"),
    ({"inline": "no base64!"}, "inline"),
    ({"signature": {"payload": "", "payloadType": "x", "signatures": []}}, "signature.signatures"),
    ({"size": 1 << 40}, "size"),
]


def test_a_document_that_lies_about_its_package_changes_nothing(in_cloud: Any) -> None:
    async def test(cloud: Cloud) -> None:
        for changes, field in LIES:
            with pytest.raises(Refused) as refused:
                await cloud.create(PACKAGE, **changes)
            assert refused.value.field == f"spec.package.{field}", refused.value
        assert "digits" not in [each["metadata"]["name"] for each in await cloud.ask("list", {})]
        assert await cloud.stored() == []

    in_cloud(test)


def test_what_is_no_package_is_refused_inside_a_document_and_in_the_store(in_cloud: Any) -> None:
    async def test(cloud: Cloud) -> None:
        broken = Package(PACKAGE.content[:-1], PACKAGE.manifest, 2)
        with pytest.raises(Refused, match=r"spec\.package\.inline"):
            await cloud.create(broken)
        await cloud.upload(broken.content)
        await cloud.create(broken, inside=False)
        status, reason, message = await cloud.told()
        assert (status, reason) == ("False", "Refused")
        assert "a zip as" in message
        await cloud.upload(OTHER.content, PACKAGE.digest)  # other bytes in its name
        await cloud.create(PACKAGE, inside=False, verb="update")
        assert (await cloud.told())[0] == "False"

    in_cloud(test)


def test_a_wrong_document_about_a_stored_package_is_told_and_mended_by_an_update(in_cloud: Any) -> None:
    async def test(cloud: Cloud) -> None:
        await cloud.upload(PACKAGE.content)
        await cloud.create(PACKAGE, inside=False, entryPoint="other.py")
        status, reason, message = await cloud.told()
        assert (status, reason) == ("False", "Refused")
        assert "spec.package.entryPoint: expected train.py" in message
        await cloud.create(PACKAGE, inside=False, verb="update")
        assert (await cloud.told())[0] == "True"

    in_cloud(test)


def test_packages_that_nothing_names_are_deleted(in_cloud: Any) -> None:
    async def test(cloud: Cloud) -> None:
        await cloud.create(PACKAGE)
        await cloud.told()
        await cloud.create(OTHER, verb="update")
        assert (await cloud.told())[2].startswith(f"package {OTHER.digest[:12]}")
        await asyncio.sleep(120)  # the next resync
        assert await cloud.stored() == [OTHER.digest]
        assert "superseded" not in (await cloud.ask("get", {"name": "digits"}))["status"]
        await cloud.create(PACKAGE, verb="update")
        await cloud.told()
        bare = {"kind": "Algorithm", "metadata": {"name": "digits"}, "spec": {"description": "no package"}}
        await cloud.ask("update", bare)
        await asyncio.sleep(120)
        assert await cloud.stored() == []
        await cloud.create(OTHER, verb="update")
        await cloud.told()
        await cloud.ask("delete", {"name": "digits"})
        await asyncio.sleep(5)
        assert await cloud.stored() == []

    in_cloud(test)


def test_a_package_takes_no_name_of_a_nodes_own_algorithm(in_cloud: Any) -> None:
    async def test(cloud: Cloud) -> None:
        while not (known := await cloud.ask("list", {})):
            await asyncio.sleep(1)
        document = document_of(known[0]["metadata"]["name"], PACKAGE, inline=True)
        for verb in ("create", "update"):
            with pytest.raises(Refused) as refused:
                await cloud.ask(verb, document)
            assert refused.value.code == "exists"

    in_cloud(test)


def test_a_report_says_only_that_its_edge_has_a_package() -> None:
    logged: list[str] = []
    made = parse_resource(document_of("digits", PACKAGE, inline=False))
    assert isinstance(made, Algorithm)

    class Store:
        def get(self, kind: type[Algorithm], name: str) -> Algorithm | None:
            return made if name == "digits" else None

        def all(self, kind: type[Algorithm]) -> list[Algorithm]:
            return [made]

    def report(edge: str, *packages: str) -> Report:
        offers = Offer(algorithms={"Digits": {"description": "mine", "properties": {}}})
        return Report(edge=edge, observed=Generation(), packages=list(packages), offers=offers)

    def told(**reports: Report) -> list[Algorithm]:
        return list(algorithms_of(Store(), reports, Failures(logged.append)))  # type: ignore[arg-type]

    (after,) = told(a=report("a", PACKAGE.digest), b=report("b", OTHER.digest))
    assert (after.status.edges, after.spec) == (["a"], made.spec)
    made = after
    assert told(a=report("a", PACKAGE.digest), b=report("b")) == []
    assert [each.status.edges for each in told(a=report("a"))] == [[]]
    assert logged == []
