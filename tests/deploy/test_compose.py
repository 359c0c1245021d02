"""The compose file: its services have no rights that they do not need, and what they run makes a cloud with an edge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from heliograph.client import AsyncClient
from heliograph.local.mosquitto import Mosquitto
from heliograph.local.nats_server import free_ports
from tests.deploy.compose import FILE, HOME, Services, read
from tests.patience import HANGS

OURS = {"heliograph-agent", "heliograph-cloud"}


def test_each_image_is_built_by_a_dockerfile_or_pinned() -> None:
    built = {}
    for service in read()["services"].values():
        image, _, tag = service["image"].partition(":")
        assert tag not in ("", "latest"), image
        if image in OURS and "build" in service:
            built[image] = service["build"]
    assert built.keys() == OURS
    for image, build in built.items():
        context = (FILE.parent / build["context"]).resolve()
        assert (context / "pyproject.toml").exists()
        assert (context / build["dockerfile"]).name == f"{image.removeprefix('heliograph-')}.Dockerfile"
        assert (context / build["dockerfile"]).exists()


def test_no_service_can_write_its_image_or_get_rights() -> None:
    tree = read()
    for name, service in tree["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"] and "privileged" not in service, name
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in tree["volumes"], f"{name} gets a file of the host"
        assert set(service.get("depends_on", {})) <= tree["services"].keys()
        mode = service.get("network_mode", "none").partition(":")[2]
        assert not mode or mode in tree["services"]
    published = {name: service["ports"] for name, service in tree["services"].items() if "ports" in service}
    assert published == {"broker": ["4222:4222", "8883:8883"]}, "both speak TLS alone, since init is told --bind"
    assert "--bind" in tree["services"]["init"]["command"]


def test_the_name_of_the_machine_reaches_the_certificate() -> None:
    assert "edge.example" in read({"HELIOGRAPH_HOST": "edge.example"})["services"]["init"]["command"]
    assert f"{HOME}/cloud" in read()["services"]["init"]["command"]


async def test_what_the_services_run_makes_a_cloud_with_an_edge(
    tmp_path: Path, mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    node_broker = await mosquitto()
    port, mqtt_port = free_ports(2)
    invitation = tmp_path / "invitation"
    services = Services(tmp_path, {
        "0.0.0.0": "127.0.0.1", "tls://broker:4222": f"tls://localhost:{port}",
        "/run/secrets/invitation": str(invitation), "mqtt://127.0.0.1:1883": f"mqtt://127.0.0.1:{node_broker.port}",
    })  # fmt: skip
    more = ("--port", str(port), "--mqtt-port", str(mqtt_port))
    assert "the cloud is made in" in await services.done("init", more=more)
    assert "none is due" in await services.done("init")  # at each later start
    # this machine does not know the first name in the certificate, so the test's clients use the second
    made = tmp_path / "cloud" / "cloud" / "users" / "operator" / "cluster.json"
    made.write_text(made.read_text().replace("tls://broker:", "tls://localhost:"))
    running = [services.child(name) for name in ("broker", "coordinator", "standby", "cloud")]
    try:
        for child in running:
            await child.start()
        await running[3].wait_ready(HANGS)
        address = "tls://broker:4222"
        invitation.write_text(await services.done("operator", "edge", "invite", "edge-1", "--address", address))
        for _ in range(2):  # once is enough, and twice does no harm
            assert "edge/edge-1" in await services.done("enroll")
        running.append(services.child("edge-1"))
        await running[-1].start()
        await running[-1].wait_ready(HANGS)
        async with AsyncClient(str(made)) as client:
            assert {each["metadata"]["name"] for each in await client.edges.list()} == {"cloud", "edge-1"}
    finally:
        for child in reversed(running):
            await child.stop()
