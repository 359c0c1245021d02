"""Which API server the operator asks, with which login; none of them is ever shown."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from kubernetes.aio.config import incluster_config as incluster

from heliograph.coordinator.kubernetes import connection
from heliograph.coordinator.kubernetes.api import Kind
from heliograph.coordinator.kubernetes.client import KubernetesClient
from heliograph.coordinator.kubernetes.errors import Unauthorized
from heliograph.core.certificates import Authority
from heliograph.core.errors import Refused, Unreachable
from heliograph.core.world import World
from tests.kubernetes.api_server.server import ApiServer

MODELS = Kind("edgeai.io", "v1alpha1", "models", "Model")
SECRET = "token-that-nobody-shows"


@pytest.fixture
async def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ApiServer, Path]]:
    """Return a server that asks for a token, and the kubeconfig that has it."""
    server = ApiServer(token=SECRET)
    server.apply_definitions()
    await server.start()
    file = server.kubeconfig(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(file))
    yield server, file
    await server.stop()


async def test_a_token_is_sent_and_a_renewed_one_is_read(guarded: tuple[ApiServer, Path]) -> None:
    server, file = guarded
    found = await KubernetesClient.connect(World())
    await found.list(MODELS)
    server._token = "another"
    with pytest.raises(Unauthorized, match="renew") as refused:
        await found.list(MODELS)
    assert SECRET not in str(refused.value)
    server.kubeconfig(file.parent)
    with pytest.raises(Unauthorized):
        await found.list(MODELS)
    await found.list(MODELS)
    await found.close()


async def test_a_login_that_cannot_be_read_again_is_said_and_shows_nothing(guarded: tuple[ApiServer, Path]) -> None:
    server, file = guarded
    found = await KubernetesClient.connect(World())
    server._token = "another"
    file.write_text(f"users: [{{name: x, user: {{token: {SECRET}}}}}]\n")
    with pytest.raises(Unreachable, match="cannot be read again") as refused:
        await found.list(MODELS)
    assert SECRET not in str(refused.value)
    await found.close()


@pytest.mark.parametrize("config", [
    "", "a: b", "[]", "{", f"users: [{{name: x, user: {{token: {SECRET}}}}}]", f"current-context: {SECRET}",
    f"{{current-context: x, contexts: [{{name: x, context: {{cluster: y, user: {SECRET}}}}}], clusters: []}}",
])  # fmt: skip
async def test_a_kubeconfig_that_is_none_is_refused_without_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(config)
    monkeypatch.setenv("KUBECONFIG", str(file))
    with pytest.raises(Refused, match=f"{file}.*expected a configuration.*kubectl version") as refused:
        await KubernetesClient.connect(World())
    assert SECRET not in str(refused.value)


async def test_without_a_kubeconfig_and_a_pod_it_is_said_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(Refused, match="Set KUBECONFIG, or run in a pod"):
        await KubernetesClient.connect(World())


@pytest.mark.parametrize(("server", "more", "safe"), [
    ("http://10.0.0.1:6443", {}, False), ("https://10.0.0.1:6443", {"insecure-skip-tls-verify": True}, False),
    ("https://10.0.0.1:6443", {}, True), ("http://localhost:8080", {}, True), ("http://[::1]:8080", {}, True),
])  # fmt: skip
async def test_a_login_leaves_this_machine_only_by_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, more: dict[str, object], safe: bool
) -> None:
    file = ApiServer().kubeconfig(tmp_path)
    config = yaml.safe_load(file.read_text())
    config["clusters"][0]["cluster"] = {"server": server, **more}
    file.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.delenv("HELIOGRAPH_INSECURE", raising=False)
    if not safe:
        with pytest.raises(Refused, match="HELIOGRAPH_INSECURE"):
            await KubernetesClient.connect(World())
        monkeypatch.setenv("HELIOGRAPH_INSECURE", "1")
    await (await KubernetesClient.connect(World())).close()


@pytest.fixture
async def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ApiServer, Path]]:
    """Return a server with TLS, and the service account of a pod: a folder with its token and the authority."""
    authority = Authority.made(World(), 1)
    certificate = authority.server(World(), ["127.0.0.1"], 1)
    for name, text in (("ca.crt", authority.own.certificate), ("tls.crt", certificate.certificate),
                       ("tls.key", certificate.key), ("token", SECRET)):  # fmt: skip
        (tmp_path / name).write_text(text)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    server = ApiServer(token=SECRET, tls=context)
    server.apply_definitions()
    await server.start()
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    monkeypatch.setattr(incluster, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    yield server, tmp_path
    await server.stop()


async def test_a_pod_asks_with_its_service_account_whose_token_changes(pod: tuple[ApiServer, Path]) -> None:
    server, account = pod
    found = await KubernetesClient.connect(World())
    assert await found.list(MODELS)
    (account / "token").write_text("another")
    server._token = "another"
    with pytest.raises(Unauthorized):
        await found.list(MODELS)
    assert await found.list(MODELS)
    await found.close()


async def test_a_server_of_another_authority_is_not_asked(pod: tuple[ApiServer, Path]) -> None:
    server, account = pod
    (account / "ca.crt").write_text(Authority.made(World(), 1).own.certificate)
    found = await KubernetesClient.connect(World())
    with pytest.raises(Unreachable, match="certificate verify failed"):
        await found.list(MODELS)
    assert server.requests == []
    await found.close()


async def test_another_authority_of_the_server_is_read_again(pod: tuple[ApiServer, Path]) -> None:
    account = pod[1]
    right = (account / "ca.crt").read_text()
    (account / "ca.crt").write_text(Authority.made(World(), 1).own.certificate)
    found = await KubernetesClient.connect(World())
    with pytest.raises(Unreachable, match="certificate verify failed"):
        await found.list(MODELS)
    (account / "ca.crt").write_text(right)
    with pytest.raises(Unreachable, match="certificate verify failed"):
        await found.list(MODELS)
    assert await found.list(MODELS)
    await found.close()


async def test_another_certificate_of_the_client_is_shown_once_the_login_is_refused(
    pod: tuple[ApiServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, files = pod
    authority = Authority.made(World(), 1)

    def write(token: str) -> None:
        made = authority.client(World(), "operator", 1)
        (files / "client.crt").write_text(made.certificate)
        (files / "client.key").write_text(made.key)
        config["users"][0]["user"] = {"token": token, "client-certificate": str(files / "client.crt"),
                                      "client-key": str(files / "client.key")}  # fmt: skip
        file.write_text(yaml.safe_dump(config))

    file = server.kubeconfig(files)
    config = yaml.safe_load(file.read_text())
    config["clusters"][0]["cluster"] = {"server": f"https://127.0.0.1:{server.port}",
                                        "certificate-authority": str(files / "ca.crt")}  # fmt: skip
    write(SECRET)
    monkeypatch.setenv("KUBECONFIG", str(file))
    shown: list[str] = []
    loads = ssl.SSLContext.load_cert_chain

    def load(context: ssl.SSLContext, certfile: str, keyfile: str | None = None, password: str | None = None) -> None:
        shown.append(Path(certfile).read_text())
        loads(context, certfile, keyfile, password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    found = await KubernetesClient.connect(World())
    await found.list(MODELS)
    write("another")
    server._token = "another"
    with pytest.raises(Unauthorized):
        await found.list(MODELS)
    await found.list(MODELS)
    assert shown[-1] == (files / "client.crt").read_text() != shown[0]
    await found.close()


async def test_a_pod_without_a_token_is_told(pod: tuple[ApiServer, Path]) -> None:
    (pod[1] / "token").unlink()
    with pytest.raises(Refused, match="the pod's service account"):
        await KubernetesClient.connect(World())


async def test_a_peer_that_is_gone_without_a_word_is_noticed_by_the_socket() -> None:
    """A watch on which nothing happens sends nothing: only the system's probes tell that nobody is there."""
    with connection._socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle, interval, count = (made.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{name}"))
                                 for name in ("IDLE", "INTVL", "CNT"))  # fmt: skip
        assert idle + interval * count <= 30
