"""An API server of Kubernetes for tests, and a client of it.

Where ``HELIOGRAPH_TEST_KUBECONFIG`` names a kubeconfig, the tests of the API's contract ask that server instead. With
``HELIOGRAPH_TEST_OWN_CLUSTER=1`` beside it, all other tests ask it too that cause no faults; they delete all of our
custom resources that are there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heliograph.coordinator.kubernetes.api import NAMESPACES
from heliograph.coordinator.kubernetes.client import KubernetesClient
from heliograph.coordinator.kubernetes.errors import NotFound
from heliograph.core.world import World
from tests.kubernetes.api_server.server import ApiServer
from tests.kubernetes.kubectl import Kubectl
from tests.kubernetes.own_cluster import own_cluster
from tests.kubernetes.probes import DEFINITIONS, Probes, definition, new_kind
from tests.patience import HANGS

REAL = os.environ.get("HELIOGRAPH_TEST_KUBECONFIG", "")
OWN = bool(REAL) and os.environ.get("HELIOGRAPH_TEST_OWN_CLUSTER") == "1"


@pytest.fixture
async def api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    """Return a running API server with the definitions of ``deploy/crds``, to which ``KUBECONFIG`` leads."""
    server = ApiServer()
    server.apply_definitions()
    await server.start()
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
    yield server
    await server.stop()


@pytest.fixture
def kubeconfig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the kubeconfig of ``api_server``; of a real cluster where the tests have one of their own, and this one
    asks for no ``api_server`` to break."""
    if OWN and "api_server" not in request.fixturenames:
        monkeypatch.setenv("KUBECONFIG", REAL)
        return Path(REAL)
    request.getfixturevalue("api_server")
    return tmp_path / "kubeconfig"


@pytest.fixture
async def kubernetes(kubeconfig: Path, tmp_path: Path) -> AsyncIterator[KubernetesClient]:
    """Return a client of the server to which ``kubeconfig`` leads."""
    client = await KubernetesClient.connect(World())
    own = kubeconfig == Path(REAL)
    async with own_cluster(client, Kubectl(kubeconfig, tmp_path)) if own else contextlib.nullcontext():
        yield client
    await client.close()


@pytest.fixture
def kubectl(kubeconfig: Path, kubernetes: KubernetesClient, tmp_path: Path) -> Kubectl:
    """Return kubectl, which asks the same server: ``await kubectl("get", "models")``."""
    return Kubectl(kubeconfig, tmp_path)


@pytest.fixture
async def contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubernetesClient]:
    """Return a client of the real API server if one is named, and else of one of the tests."""
    server = None
    if REAL:
        monkeypatch.setenv("KUBECONFIG", REAL)
    else:
        server = ApiServer()
        await server.start()
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
    client = await KubernetesClient.connect(World())
    yield client
    await client.close()
    if server is not None:
        await server.stop()


@pytest.fixture
async def probes(contract: KubernetesClient) -> AsyncIterator[Probes]:
    """Return a kind of probes that is served, and an empty namespace; both go with the test."""
    found = Probes(contract, new_kind(), f"contract-{secrets.token_hex(4)}")
    await contract.create(NAMESPACES, "", {"metadata": {"name": found.namespace}})
    await contract.create(DEFINITIONS, "", definition(found.kind))
    await _served(found)
    yield found
    for kind, name in ((NAMESPACES, found.namespace), (DEFINITIONS, found.kind.resource)):
        with contextlib.suppress(NotFound):
            await contract.delete(kind, "", name)


async def _served(probes: Probes) -> None:
    """Return once the kind is served: a real server needs a moment to read its definition."""
    async with asyncio.timeout(HANGS):
        while True:
            try:
                await probes.api.list(probes.kind, probes.namespace)
                return
            except NotFound:
                await asyncio.sleep(0.1)
