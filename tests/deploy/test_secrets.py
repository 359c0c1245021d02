"""``heliograph secrets``: what the chart's pods read, from the directory of a cloud; and the settings of its broker."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from heliograph.core.certificates import read_certificate
from heliograph.local.nats_server import find_nats_server
from tests.deploy.rendered import named, pods, rendered
from tests.local.started import typed

NAMES = ("--tls-name", "cloud.example.org", "--tls-name", "heliograph-nats")
ELSEWHERE = {"server_name", "host", "port", "log_file", "logfile_size_limit", "logfile_max_num", "operator", "dir",
             "system_account", "default_sentinel", "store_dir", "cert_file", "key_file"}  # fmt: skip
"""Settings that the chart has another value for, or in another file."""


async def made(tmp_path: Path, *options: str) -> tuple[int, str]:
    code, said = await typed("init", str(tmp_path / "cloud"), "--bind", "0.0.0.0", *(options or NAMES), home=tmp_path)
    assert code == 0, said
    return await typed("secrets", str(tmp_path / "cloud"), "--namespace", "heliograph", home=tmp_path)


def content(secret: dict[str, Any]) -> dict[str, str]:
    return {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}


async def test_they_have_what_each_pod_mounts_and_the_same_each_time(tmp_path: Path) -> None:
    code, printed = await made(tmp_path)
    assert code == 0, printed
    secrets = [*yaml.safe_load_all(printed)]
    for each in secrets:
        kubernetes_validate.validate(each, "1.36", strict=True)
        assert each["metadata"]["namespace"] == "heliograph"
    found = {each["metadata"]["name"]: content(each) for each in secrets}
    for name, pod in pods(rendered()):
        (volume,) = (each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each)
        text = rendered_config() if name.endswith("-nats") else json.dumps(pod)
        wanted = set(re.findall(r"/secrets/([\w-]+\.\w+)", text))
        assert wanted and wanted <= set(found[volume]), name
    assert (await typed("secrets", str(tmp_path / "cloud"), "--namespace", "heliograph", home=tmp_path)) == (0, printed)


def rendered_config(values: dict[str, Any] | None = None) -> str:
    return str(named(rendered(values), "ConfigMap", "heliograph-nats")["data"]["nats.conf"])


async def test_the_servers_get_no_key_that_signs_a_login(tmp_path: Path) -> None:
    _, printed = await made(tmp_path)
    broker = content(named([*yaml.safe_load_all(printed)], "Secret", "heliograph-broker"))
    assert not re.search(r"\bS[AOU][A-Z2-7]{50,}", "".join(broker.values())), "a seed"
    assert "PRIVATE KEY" in broker["server.key"] and "PRIVATE KEY" not in broker["server.pem"]
    trusted = json.loads(broker["trust.conf"])
    assert set(trusted) == {"operator", "system_account", "default_sentinel", "resolver_preload"}
    assert trusted["system_account"] in trusted["resolver_preload"]


async def test_servers_know_each_other_by_names_of_their_own(tmp_path: Path) -> None:
    _, printed = await made(tmp_path)
    broker = content(named([*yaml.safe_load_all(printed)], "Secret", "heliograph-broker"))
    file, key = tmp_path / "routes.pem", tmp_path / "routes.key"
    file.write_text(broker["routes.pem"])
    key.write_text(broker["routes.key"])
    routes = re.findall(r"tls://([\w.-]+):6222", rendered_config())
    assert len(routes) == 3 and read_certificate(file, key).names == set(routes)
    assert broker["routes-ca.pem"] != broker["ca.pem"], "a client's authority must open no route"
    certificate = x509.load_pem_x509_certificate(broker["routes.pem"].encode())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH} <= set(usage), "each calls the others"


async def test_the_server_takes_the_charts_configuration(tmp_path: Path) -> None:
    _, printed = await made(tmp_path)
    for directory in ("secrets", "config"):
        (tmp_path / directory).mkdir()
    for file, text in content(named([*yaml.safe_load_all(printed)], "Secret", "heliograph-broker")).items():
        (tmp_path / "secrets" / file).write_text(text)
    for servers in (1, 3):
        text = rendered_config({"nats": {"servers": servers}})
        for mounted in ("secrets", "data"):
            text = text.replace(f'"/{mounted}/', f'"{tmp_path}/{mounted}/')
        (tmp_path / "config" / "nats.conf").write_text(text)
        said = checked(tmp_path / "config" / "nats.conf")
        assert "is valid" in said, said


def checked(config: Path) -> str:
    """Return what nats-server says of a configuration."""
    variables = {"POD_NAME": "heliograph-nats-0"}
    done = subprocess.run([find_nats_server(), "-t", "-c", config], capture_output=True, text=True, env=variables)
    return done.stdout + done.stderr


def test_keys_are_not_shown_on_a_terminal() -> None:
    reader, writer = pty.openpty()
    try:
        command = [sys.executable, "-m", "heliograph.cli.main", "secrets", "nowhere"]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
        os.close(reader)
    assert done.returncode != 0 and "a pipe to kubectl" in done.stderr


async def test_a_certificate_without_the_name_of_the_service_is_refused_with_the_command_that_helps(
    tmp_path: Path,
) -> None:
    code, said = await made(tmp_path, "--tls-name", "cloud.example.org")
    assert code == 1 and "the name heliograph-nats" in said and "--tls-name heliograph-nats" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere",), "expected a directory that 'heliograph init' has made"),
        (("nowhere", "--release", "Heliograph"), "expected a DNS label"),
        (("nowhere", "--servers", "9"), "--servers': Input should be less than or equal to 5"),
    ],
)
async def test_bad_arguments_are_named(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    code, said = await typed("secrets", *words, home=tmp_path)
    assert code in (2, 4) and message in said and "Traceback" not in said


async def test_a_damaged_directory_is_named(tmp_path: Path) -> None:
    await made(tmp_path)
    (tmp_path / "cloud" / "document-key.pem").unlink()
    code, said = await typed("secrets", str(tmp_path / "cloud"), home=tmp_path)
    assert code == 1 and "document-key.pem cannot be read" in said and "BEGIN" not in said


async def test_the_charts_broker_has_the_settings_of_one_that_init_makes(tmp_path: Path) -> None:
    await made(tmp_path)
    text, lacking = rendered_config(), []
    for name, value in leaves(json.loads((tmp_path / "cloud" / "broker" / "nats.conf").read_text())):
        written = json.dumps(value).strip('"')
        if name not in ELSEWHERE and not re.search(rf'^\s*.*\b{name}: "?{re.escape(written)}"?(\s|$)', text, re.M):
            lacking.append((name, value))
    assert lacking == []


def leaves(tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value)
        else:
            yield name, value
