"""An API server of Kubernetes for tests, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heliograph.coordinator.kubernetes.client import KubernetesClient
from heliograph.core.world import World
from tests.kubernetes.api_server.server import ApiServer


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
async def kubernetes(api_server: ApiServer) -> AsyncIterator[KubernetesClient]:
    """Return a client that is connected to ``api_server``."""
    client = await KubernetesClient.connect(World())
    yield client
    await client.close()
