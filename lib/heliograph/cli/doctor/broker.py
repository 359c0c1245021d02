"""Whether the broker can be reached, is new enough, takes our messages, and has JetStream."""

from __future__ import annotations

from heliograph.bus.connection_url import SECURE, ConnectionUrl
from heliograph.bus.contract.registry import declared
from heliograph.bus.contract.versions import parse_version
from heliograph.bus.nats.connection import NatsConnection
from heliograph.cli.doctor.check import Finding, Patient, good
from heliograph.core.errors import Forbidden

LEAST_VERSION = (2, 12)
"""The first nats-server that stores a batch whole or not at all."""
SLOW = 0.5
"""Seconds of a round trip from which the link is called slow: requests wait five seconds at most."""
_LOOPBACK = ("localhost", "127.", "::1")


class BrokerCheck:
    name = "broker"
    what = "the broker's address, login, version, message size, encryption and JetStream"
    needs_cluster = False

    async def examine(self, patient: Patient) -> list[Finding]:
        if patient.client is None:
            return [_unreachable(patient)]
        assert patient.server is not None
        url = ConnectionUrl.parse(patient.server.url)
        findings = []
        if patient.nats is None:
            findings.append(good(f"{patient.server.shown} lets this login in, over MQTT"))
            findings.append(Finding("note", "over MQTT streams, clocks and sizes cannot be examined",
                                    "Name the cluster by its nats:// URL."))  # fmt: skip
        else:
            findings += await _examine_nats(patient, patient.nats)
        if url.scheme not in SECURE and not url.host.startswith(_LOOPBACK):
            findings.append(
                Finding("warning", f"{url.scheme}://{url.host} is another machine, and this URL does not ask for TLS: "
                        "logins and models may pass in the clear",
                        "Let the broker speak TLS, and use tls:// or mqtts:// with HELIOGRAPH_TLS_CA.")
            )  # fmt: skip
        return findings


async def _examine_nats(patient: Patient, connection: NatsConnection) -> list[Finding]:
    assert patient.server is not None
    client = connection.client
    began = patient.world.monotonic()
    await connection.guard(client.flush(timeout=5))
    seconds = patient.world.monotonic() - began
    found = client.connected_server_version
    version = f"{found.major}.{found.minor}.{found.patch}"
    findings = [good(f"{patient.server.shown}, nats-server {version}, answers in {1000 * seconds:.1f} ms")]
    if seconds > SLOW:
        findings.append(Finding("warning", f"a round trip takes {seconds:.1f} s",
                                "Look for a saturated link; commands wait 5 s for an answer."))  # fmt: skip
    if parse_version(version) < LEAST_VERSION:
        findings.append(Finding("problem", f"nats-server {version} stores no atomic batches, which agents send",
                                f"Install {'.'.join(map(str, LEAST_VERSION))} or newer."))  # fmt: skip
    wanted = max(topic.max_size for topic in declared().topics)
    if client.max_payload < wanted:
        findings.append(
            Finding("warning", f"the broker takes messages of {client.max_payload} bytes; topics allow up to {wanted}",
                    f"Set max_payload: {wanted + 4096} in its configuration.")
        )  # fmt: skip
    return [*findings, *await _examine_jetstream(patient)]


async def _examine_jetstream(patient: Patient) -> list[Finding]:
    account = await patient.jetstream("INFO")
    if account is None:
        return [Finding("note", "this login may not ask JetStream: streams, clocks and sizes are not examined",
                        "Use the operator's login.")]  # fmt: skip
    if "error" in account:
        return [Finding("problem", f"JetStream does not answer: {account['error'].get('description', 'no reason')}",
                        "Enable it in the broker's configuration: jetstream: {store_dir: …}.")]  # fmt: skip
    return [good(f"JetStream has {account.get('streams', 0)} streams")]


def _unreachable(patient: Patient) -> Finding:
    why = str(patient.failure or "no cluster was named")
    if patient.server is None:
        return Finding("problem", why, "Start a cluster with 'heliograph up', or name one by --server.")
    if isinstance(patient.failure, Forbidden):
        return Finding("problem", why, "Take the login from the cluster.json that 'heliograph up' has written; a token "
                       "is good for the cluster that made it.")  # fmt: skip
    return Finding("problem", why, "Start the broker; look at host, port and firewall between here and there.")
