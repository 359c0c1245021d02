"""``heliograph secrets`` makes what the chart's pods mount, and no part gets keys that another one has."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from heliograph.local.nats_server import Broker, find_nats_server
from tests.deploy.rendered import containers, named, pods, rendered
from tests.local.started import typed

NAMES = ("--bind", "0.0.0.0", "--tls-name", "cloud.example.org", "--tls-name", "heliograph-nats")
UNREAD = {"authority.json", "worker-issuer.json", "callout.json", "callout.creds", "ca.pem", "trust.conf"}
"""What no mount path names in full: the init container lays it into the authority, or the configuration includes it."""
Secrets = dict[str, dict[str, str]]


async def made(tmp_path: Path, *words: str) -> Path:
    directory = tmp_path / "cloud"
    code, said = await typed("init", str(directory), *words, home=tmp_path)
    assert code == 0, said
    return directory


@pytest.fixture
async def secrets(tmp_path: Path) -> Secrets:
    """Return the content of each Secret by its name."""
    directory = await made(tmp_path, *NAMES)
    code, printed = await typed("secrets", str(directory), "--namespace", "heliograph", home=tmp_path)
    assert code == 0, printed
    manifests = list(yaml.safe_load_all(printed))
    for each in manifests:
        kubernetes_validate.validate(each, "1.36", strict=True)
        assert each["metadata"]["namespace"] == "heliograph"
    return {each["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in each["data"].items()}
            for each in manifests}  # fmt: skip


async def test_each_file_of_a_secret_that_a_pod_reads_is_in_it(secrets: Secrets) -> None:
    wanted: set[str] = set()
    for _, pod in pods(rendered()):
        mounted = {each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
        for container in containers(pod):
            text = yaml.safe_dump(container)
            for name in mounted.values():
                used = [file for file in secrets[name] if f"/secrets/{file}" in text]
                wanted.update(used)
                assert text.count("/secrets/") == sum(text.count(f"/secrets/{file}") for file in used)
    config = named(rendered(), "ConfigMap", "heliograph-nats")["data"]["nats.conf"]
    wanted.update(file for file in secrets["heliograph-broker"] if f"secrets/{file}" in config)
    assert wanted | UNREAD == {file for content in secrets.values() for file in content}


async def test_the_broker_has_no_key_that_signs_a_login(secrets: Secrets) -> None:
    broker = "".join(secrets["heliograph-broker"].values())
    for seed in ("SO", "SA", "SU"):  # of an operator, an account, a user
        for name in ("heliograph-coordinator", "heliograph-cloud-agent"):
            for text in secrets[name].values():
                for word in text.replace('"', " ").split():
                    assert not (word.startswith(seed) and len(word) == 58 and word in broker)
    assert "authority.json" not in secrets["heliograph-cloud-agent"]
    assert not {"signing-key.pem", "document-key.pem", "system.creds"} & secrets["heliograph-cloud-agent"].keys()


async def test_servers_know_each_other_by_certificates_for_both_sides_of_a_connection(secrets: Secrets) -> None:
    certificate = x509.load_pem_x509_certificate(secrets["heliograph-broker"]["routes.pem"].encode())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= set(usage)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = names.get_values_for_type(x509.DNSName)
    assert sorted(found) == [f"heliograph-nats-{number}.heliograph-nats-routes" for number in range(3)]
    assert secrets["heliograph-broker"]["routes-ca.pem"] != secrets["heliograph-broker"]["ca.pem"]


@pytest.mark.parametrize("servers", [1, 3])
async def test_the_server_takes_the_charts_configuration(secrets: Secrets, tmp_path: Path, servers: int) -> None:
    text = named(rendered({"nats": {"servers": servers}}), "ConfigMap", "heliograph-nats")["data"]["nats.conf"]
    (tmp_path / "secrets").mkdir()
    for file, content in secrets["heliograph-broker"].items():
        (tmp_path / "secrets" / file).write_text(content)
    (tmp_path / "config").mkdir()
    config = tmp_path / "config" / "nats.conf"
    config.write_text(text.replace('"/secrets/', f'"{tmp_path}/secrets/').replace('"/data/', f'"{tmp_path}/data/'))
    tried = subprocess.run([find_nats_server(), "-t", "-c", config], capture_output=True, text=True,
                           env={"POD_NAME": "heliograph-nats-0"})  # fmt: skip
    assert tried.returncode == 0, tried.stderr


def test_the_charts_broker_has_the_settings_of_ours(tmp_path: Path) -> None:
    text = named(rendered(), "ConfigMap", "heliograph-nats")["data"]["nats.conf"]
    broker = Broker(tmp_path, "cloud", name="x")
    broker.issue_logins()
    ours: dict[str, Any] = json.loads(broker.config())
    for name in ("max_payload", "ping_max", "max_connections", "max_subscriptions", "max_pending"):
        assert f"\n{name}: {ours[name]}\n" in text
    assert f'\nping_interval: "{ours["ping_interval"]}"\n' in text
    assert f"max_ack_pending: {ours['mqtt']['max_ack_pending']}\n" in text
    assert f"sync_interval: {ours['jetstream']['sync_interval']}\n" in text


async def test_a_cloud_whose_certificate_lacks_the_services_name_is_refused_with_the_command(tmp_path: Path) -> None:
    directory = await made(tmp_path, "--bind", "0.0.0.0", "--tls-name", "cloud.example.org")
    code, said = await typed("secrets", str(directory), home=tmp_path)
    assert code != 0 and "--tls-name heliograph-nats" in said and "BEGIN" not in said


async def test_a_cloud_of_this_machine_alone_is_refused(tmp_path: Path) -> None:
    directory = await made(tmp_path)
    code, said = await typed("secrets", str(directory), home=tmp_path)
    assert code != 0 and "expected a cloud with TLS" in said


@pytest.mark.parametrize(("words", "expected"), [
    (("nowhere",), "a directory that 'heliograph init' has made"),
    (("nowhere", "--release", "A.b"), "--release"),
    (("nowhere", "--namespace", "-x"), "--namespace"),
])  # fmt: skip
async def test_other_words_are_refused(tmp_path: Path, words: tuple[str, ...], expected: str) -> None:
    code, said = await typed("secrets", *words, home=tmp_path)
    assert code != 0 and expected in said and "Traceback" not in said


def test_keys_are_not_shown_on_a_terminal() -> None:
    """The check is of the file that the output is; a pseudo-terminal stands for a person's."""
    reader, writer = pty.openpty()
    try:
        done = subprocess.run([sys.executable, "-m", "heliograph.cli.main", "secrets", "nowhere"], stdout=writer,
                              stderr=subprocess.PIPE, text=True)  # fmt: skip
    finally:
        os.close(writer)
        os.close(reader)
    assert done.returncode != 0 and "a pipe to kubectl" in done.stderr
