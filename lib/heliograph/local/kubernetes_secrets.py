"""The Secrets of Kubernetes that the chart needs, from the directory of a cloud that ``heliograph init`` has made.

    NAME-broker         whom the servers trust, and their certificates; no key that signs a login
    NAME-coordinator    the authority, the keys that sign documents and versions of models, the coordinator's logins
    NAME-cloud-agent    the login of the cloud's agent, and the key by which it signs those of its workers

Each is made again the same, but for certificates that were renewed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heliograph.core.certificates import read_certificate
from heliograph.core.errors import HeliographError, Refused
from heliograph.core.world import World
from heliograph.local.certificates import Certificates
from heliograph.local.cloud_settings import CloudSettings

MOST_BYTES = 1_000_000
"""Largest Secret that Kubernetes takes, less what describes it."""
CALLOUT_LOGIN = "/authority/logins/callout.creds"
"""Where the chart's coordinator keeps the login of the callout."""
_TRUSTED = ("operator", "system_account", "default_sentinel")
"""Options of nats-server by which it trusts an authority."""
_COORDINATOR = {
    "authority.json": "broker/identity/authority.json",
    "worker-issuer.json": "broker/identity/worker-issuer.json",
    "callout.creds": "broker/identity/logins/callout.creds",
    "coordinator.creds": "broker/identity/logins/coordinator.creds",
    "coordinator.mqtt": "broker/identity/logins/coordinator.mqtt",
    "system.creds": "broker/identity/logins/system.creds",
    "signing-key.pem": "signing-key.pem",
    "document-key.pem": "document-key.pem",
    "coordinator-keys.pem": "coordinator-keys.pem",
    "ca.pem": "tls/ca.pem",
}
_CLOUD_AGENT = {
    "agent-cloud.creds": "broker/identity/logins/agent-cloud.creds",
    "worker-issuer.json": "broker/identity/worker-issuer.json",
    "model-keys.pem": "model-keys.pem",
    "coordinator-keys.pem": "coordinator-keys.pem",
    "ca.pem": "tls/ca.pem",
}


def secrets(directory: Path, name: str, namespace: str, servers: int, world: World) -> list[dict[str, Any]]:
    """Return the manifests of the Secrets of a release of the chart.

    Args:
        directory: of the cloud.
        name: of the release.
        servers: how many the broker's cluster has.

    Raises:
        Refused: where the broker's certificate has not the names by which the cluster reaches it, or a Secret is larger
            than Kubernetes takes.
        HeliographError: where a file cannot be read.
    """
    CloudSettings.of_cloud(directory)
    _check_names(directory / "tls", f"{name}-nats")
    made = {
        "broker": _broker(directory, name, servers, world),
        "coordinator": {**_read(directory, _COORDINATOR), "callout.json": _callout(directory)},
        "cloud-agent": _read(directory, _CLOUD_AGENT),
    }
    return [_secret(f"{name}-{part}", name, namespace, content) for part, content in made.items()]


def _broker(directory: Path, name: str, servers: int, world: World) -> dict[str, str]:
    try:
        config = json.loads((directory / "broker" / "nats.conf").read_text())
        trusted = {option: config[option] for option in _TRUSTED}
        accounts = directory / "broker" / "identity" / "accounts"
        preload = {file.stem: file.read_text().strip() for file in sorted(accounts.glob("*.jwt"))}
    except (OSError, ValueError, KeyError) as error:
        raise HeliographError(f"{directory} is damaged: {error!r}; run 'heliograph init' there again") from None
    files = {"server.pem": "tls/server.pem", "server.key": "tls/server.key", "ca.pem": "tls/ca.pem"}
    return {"trust.conf": json.dumps({**trusted, "resolver_preload": preload}, indent=1), **_read(directory, files),
            **_routes(directory / "tls" / "kubernetes-routes", name, servers, world)}  # fmt: skip


def _callout(directory: Path) -> str:
    """Return the keys of the callout, with the place that their login has in a coordinator's pod."""
    tree = json.loads(_read(directory, {"": "broker/identity/callout.json"})[""])
    return json.dumps({**tree, "credentials": CALLOUT_LOGIN})


def _routes(directory: Path, name: str, servers: int, world: World) -> dict[str, str]:
    """Return the certificate by which the servers know each other. Its authority signs for nobody else."""
    names = [f"{name}-nats-{number}.{name}-nats-routes" for number in range(servers)]
    certificates = Certificates(directory, names, world, peers=True)
    certificates.renew()
    files = {"routes.pem": certificates.server, "routes.key": certificates.server_key, "routes-ca.pem": certificates.ca}
    return {key: file.read_text() for key, file in files.items()}


def _check_names(tls: Path, wanted: str) -> None:
    certificate, key = tls / "server.pem", tls / "server.key"
    if not certificate.exists():
        raise Refused("insecure", field="DIRECTORY", expected="a cloud with TLS", got="one that listens on loopback",
                      hint=f"Make another: {_init(wanted.removesuffix('-nats'))}.")  # fmt: skip
    names = read_certificate(certificate, key).names
    if wanted not in names:
        raise Refused("invalid", field="--tls-name", expected=f"a certificate with the name {wanted}, by which pods"
                      " reach the broker", got=", ".join(sorted(names)), hint="Name it beside the others:"
                      f" heliograph init DIRECTORY --tls-name cloud.example.org --tls-name {wanted}.")  # fmt: skip


def _init(name: str) -> str:
    return f"heliograph init DIRECTORY --bind 0.0.0.0 --tls-name cloud.example.org --tls-name {name}-nats"


def _read(directory: Path, files: Mapping[str, str]) -> dict[str, str]:
    try:
        return {key: (directory / file).read_text() for key, file in files.items()}
    except OSError as error:
        raise HeliographError(f"{error.filename} cannot be read: {error.strerror}; run 'heliograph init' in {directory}"
                              " again") from None  # fmt: skip


def _secret(name: str, release: str, namespace: str, content: Mapping[str, str]) -> dict[str, Any]:
    data = {key: base64.b64encode(text.encode()).decode() for key, text in content.items()}
    size = sum(map(len, data.values()))
    if size > MOST_BYTES:
        raise Refused("too-large", field=name, expected=f"at most {MOST_BYTES:,} bytes", got=f"{size:,}",
                      hint="Make the Secrets of a cloud before edges enrol; the cluster keeps those.")  # fmt: skip
    labels = {"app.kubernetes.io/part-of": "heliograph", "app.kubernetes.io/instance": release}
    metadata = {"name": name, "labels": labels, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data}
