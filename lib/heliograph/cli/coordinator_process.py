"""``coordinator``: its options, and the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from heliograph.cli.process_options import CREDENTIALS, ProcessOptions
from heliograph.cli.running import run_until_signalled


def main(words: Sequence[str]) -> int:
    """Run a coordinator; return the exit code."""
    import gc
    import platform

    from heliograph.core.errors import Refused, shorten
    from heliograph.core.names import LABEL_RULE, is_label

    parser = ProcessOptions("coordinator")
    host = platform.node().partition(".")[0].lower()[:50]
    parser.setting(
        "--name", "HELIOGRAPH_NAME", "NAME", "Name of this coordinator; one leads, the others stand by. Default: host.",
        f"{host if is_label(host) else 'coordinator'}-{os.getpid()}",
    )  # fmt: skip
    parser.setting("--nats", "HELIOGRAPH_NATS", "URL", f"nats:// URL of the cloud; {CREDENTIALS}.")
    parser.setting("--system", "HELIOGRAPH_SYSTEM", "URL", "nats:// URL with a system user, for presence.", "")
    parser.setting("--status", "HELIOGRAPH_STATUS", "URL", "mqtt:// URL for retained status.", "")
    parser.setting(
        "--authority", "HELIOGRAPH_AUTHORITY", "DIR", "Keys of a broker in operator mode: they sign the logins of nodes"
        " that enrol, let them and local anonymous clients in, and refuse wrong passwords.", "",
    )  # fmt: skip
    parser.setting("--authorities", "HELIOGRAPH_AUTHORITIES", "FILE", "Certificates by which nodes know it.", "")
    parser.setting(
        "--login-seconds", "HELIOGRAPH_LOGIN_SECONDS", "N", "How long the login of an enrolled edge is good; its agent"
        " renews it at half of that.", "86400",
    )  # fmt: skip
    parser.setting(
        "--default-scope", "HELIOGRAPH_DEFAULT_SCOPE", "SCOPE[@PROJECT]", "What a login may do that no User names:"
        " none, viewer, submitter, admin or operator.", "submitter",
    )  # fmt: skip
    parser.setting(
        "--door-scope", "HELIOGRAPH_DOOR_SCOPE", "SCOPE[@PROJECT]", "What clients of external doors may do, all of them"
        " alike.", "admin",
    )  # fmt: skip
    parser.repeatable("--door", "URL", "mqtt:// URL of an external door; HELIOGRAPH_DOORS has several, with spaces.")
    parser.setting(
        "--patience", "HELIOGRAPH_PATIENCE", "FACTOR", "Factor for all times of the lease, 1 to 100; the same for all "
        "coordinators.", "1",
    )  # fmt: skip
    parser.setting(
        "--replicas", "HELIOGRAPH_REPLICAS", "N", "Servers of the broker's cluster that keep each stream and bucket: 1,"
        " 3 or 5; the same for all coordinators.", "1",
    )  # fmt: skip
    parser.setting(
        "--signing-key", "HELIOGRAPH_SIGNING_KEY", "FILE", "Private key (P-256, PEM) that signs versions of models;"
        " made where there is no such file. All coordinators of a cluster have the same. Default: versions are not"
        " signed.", "",
    )  # fmt: skip
    parser.setting(
        "--document-key", "HELIOGRAPH_DOCUMENT_KEY", "FILE", "Private key (Ed25519, PEM) that signs what edges are to"
        " do; made where there is no such file. All coordinators of a cluster have the same. Default: no signature.",
        "",
    )  # fmt: skip
    parser.setting(
        "--cloud-keys", "HELIOGRAPH_CLOUD_KEYS", "FILE", "Public keys (Ed25519, PEM) that nodes are told to obey beside"
        " that of --document-key, by each login that they get: the next one, before it signs. Default: none.", "",
    )  # fmt: skip
    parser.switch(
        "--kubernetes", "HELIOGRAPH_KUBERNETES",
        "Keep custom resources and resources the same, by the API server of this pod or of KUBECONFIG.",
    )  # fmt: skip
    parser.setting(
        "--kubernetes-namespaces", "HELIOGRAPH_KUBERNETES_NAMESPACES", "NAMES", "Namespaces whose custom resources"
        " count, with commas. Default: all.", "",
    )  # fmt: skip
    parser.setting(
        "--kubernetes-home", "HELIOGRAPH_KUBERNETES_HOME", "NAME", "Namespace in which edges are shown.", "default",
    )  # fmt: skip
    parser.setting(
        "--worker-pods", "HELIOGRAPH_WORKER_PODS", "FILE", "What pods of workers may be, as TOML (docs/pods.md): their"
        " images above all. Default: no worker is a pod.", "",
    )  # fmt: skip
    parser.repeatable("--quota", "NAME=N", "A quota; HELIOGRAPH_QUOTAS has several, with spaces.")
    parser.repeatable("--keep", "NAME=N", "How long what nobody needs stays; HELIOGRAPH_KEEP has several, with spaces.")
    given = parser.parse_args(words)
    if not is_label(given.name):
        parser.error(f"invalid value for --name: expected {LABEL_RULE}, got {shorten(given.name)}")

    from heliograph.bus.connection_url import MQTT, NATS
    from heliograph.bus.nats.stream_making import REPLICAS
    from heliograph.cli.printing.output import say
    from heliograph.coordinator.authorization.callers import Grants, parse_grant
    from heliograph.coordinator.coordinator import Coordinator, CoordinatorConfig
    from heliograph.coordinator.garbage.lives import Lives
    from heliograph.coordinator.kubernetes.operator import OperatorSettings
    from heliograph.coordinator.kubernetes.pod_settings_file import read_pod_settings
    from heliograph.coordinator.quotas import Quotas
    from heliograph.core.ed25519_signer import Ed25519Signer, public_keys
    from heliograph.core.world import World
    from heliograph.server import Server, check_url

    try:
        quotas = Quotas.parse(given.quota or os.environ.get("HELIOGRAPH_QUOTAS", "").split())
    except Refused as error:
        parser.error(f"invalid value for --quota: {error}")
    try:
        lives = Lives.parse(given.keep or os.environ.get("HELIOGRAPH_KEEP", "").split())
    except Refused as error:
        parser.error(f"invalid value for --keep: {error}")
    try:
        unnamed = parse_grant(given.default_scope, "--default-scope")
        grants = Grants(unnamed, parse_grant(given.door_scope, "--door-scope"))
    except Refused as error:
        parser.error(str(error))
    # documents are read in a thread: it hands over to the event loop sooner than after 5 ms
    sys.setswitchinterval(0.001)
    gc.freeze()  # a collection then passes over what was imported, and takes milliseconds less
    login_seconds = int(given.login_seconds) if given.login_seconds.isdigit() else 0
    if not 2 <= login_seconds <= 10 * 365 * 86_400:
        parser.error(f"invalid value for --login-seconds: expected 2 to 315360000, got {shorten(given.login_seconds)}")
    if given.cloud_keys:
        public_keys(Path(given.cloud_keys))  # refused before anything connects; it is read again at each login
    if given.replicas not in map(str, REPLICAS):
        parser.error(f"invalid value for --replicas: expected 1, 3 or 5, got {shorten(given.replicas)}")
    namespaces = tuple(filter(None, given.kubernetes_namespaces.split(",")))
    for field, names in (("--kubernetes-namespaces", namespaces), ("--kubernetes-home", (given.kubernetes_home,))):
        if bad := [each for each in names if not is_label(each)]:
            parser.error(f"invalid value for {field}: expected {LABEL_RULE}, got {shorten(bad[0])}")
    pods = read_pod_settings(Path(given.worker_pods)) if given.worker_pods else None
    if pods is not None and not given.kubernetes:
        parser.error("--worker-pods needs --kubernetes: the operator makes the pods")
    doors = given.door or os.environ.get("HELIOGRAPH_DOORS", "").split()
    config = CoordinatorConfig(
        nats=check_url(given.nats, "--nats", *NATS),
        system=given.system and check_url(given.system, "--system", *NATS),
        status=given.status and check_url(given.status, "--status", *MQTT),
        doors=tuple(check_url(url, "--door", *MQTT) for url in doors),
        name=given.name,
        patience=parser.factor(given.patience, "--patience", 100.0),
        replicas=int(given.replicas),
        quotas=quotas,
        signing_key=Path(given.signing_key) if given.signing_key else None,
        document_signer=Ed25519Signer.kept(Path(given.document_key), World()) if given.document_key else None,
        lives=lives,
        authority=Path(given.authority) if given.authority else None,
        authorities=Path(given.authorities) if given.authorities else None,
        login_seconds=login_seconds,
        grants=grants,
        cloud_keys=Path(given.cloud_keys) if given.cloud_keys else None,
        kubernetes=OperatorSettings(given.kubernetes_home, namespaces, pods) if given.kubernetes else None,
    )

    async def make() -> Coordinator:
        return Coordinator(config, World(), say)

    run_until_signalled(make, f"coordinator connects to {Server(given.nats).shown}")
    return 0
