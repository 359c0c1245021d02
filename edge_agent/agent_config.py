"""The options that an edge agent is started with."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.bus.connection_url import INSECURE, ConnectionUrl
from heliograph.bus.contract.topics import DEFAULT_ROOT
from heliograph.core.ed25519_signer import Ed25519Signer
from heliograph.core.errors import Refused
from heliograph.edge_agent.admission import UNKNOWN, Capacity
from heliograph.edge_agent.code_roots import CodeRoot
from heliograph.edge_agent.devices.mapping import Rule
from heliograph.edge_agent.journal import QUOTA
from heliograph.edge_agent.pinned_keys import PinnedKeys

if TYPE_CHECKING:
    from heliograph.bus.contract.payloads import NodeState
    from heliograph.bus.nats.worker_issuer import WorkerIssuer
    from heliograph.edge_agent.datasets.csv_look import Header


@dataclass(frozen=True)
class AgentConfig:
    """The options an agent was started with.

    Attributes:
        cloud: URL of the cloud's NATS; the agent dials out.
        node: URL of the node's broker, mqtt:// on an edge; the cloud's agent gives its NATS.
        devices: URL of the broker of the node's devices, where they have another one than workers; empty otherwise.
        worker_node: URL of the node's broker with the workers' credentials; without a login where each launch gets one.
        worker_issuer: signs a login for each launch; None where the workers share that of ``worker_node``.
        state: directory for journal, models and workers.
        code: roots under which a task's script may lie.
        data: roots under which a Dataset's file may lie.
        datasets: files of the edge's own data sets, by name.
        quota: bytes of events that may wait in the journal.
        headers: whether the first line names the columns, of those of the edge's own data sets whose cells shall not
            decide it.
        allowed_packages: digests of the packages of code that may run.
        allowed_packages_file: a file with further ones, one a line; it may change.
        package_keys: PEM of each public key whose signature allows a package, by its id.
        model_keys: PEM of each public key whose signature a model needs to be served here, by the key's id; without
            any, no signature is needed.
        coordinator_keys: public keys, one of which signs what is desired of this node; None lets unsigned documents
            hold.
        edge_signer: the edge's key, which signs its agent's claims to the name; None leaves them unsigned.
        capacity: what the node has for workers that ask for memory or GPUs.
        label_columns: the column with the labels, of the edge's own data sets.
        tells_labels: whether the edge tells how often each label occurs in its data sets.
        projects: those whose jobs and services may run here; empty for all.
        pods: the directory that the node shares with the pods of its workers; None where its workers are processes.
        device_rules: what further topics of devices stand for, see ``devices.mapping``.
        node_state: returns what the node has free; None for an agent that does not look.
        unenforced: what the site policy asks for and this machine cannot enforce, a sentence each.
    """

    name: str
    cloud: str
    node: str
    worker_node: str
    state: Path
    code: tuple[CodeRoot, ...] = ()
    data: tuple[Path, ...] = ()
    datasets: Mapping[str, Path] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    quota: int = QUOTA
    root: str = DEFAULT_ROOT
    headers: Mapping[str, Header] = field(default_factory=dict)
    label_columns: Mapping[str, str] = field(default_factory=dict)
    tells_labels: bool = False
    allowed_packages: frozenset[str] = frozenset()
    allowed_packages_file: Path | None = None
    package_keys: Mapping[str, str] = field(default_factory=dict)
    model_keys: Mapping[str, str] = field(default_factory=dict)
    coordinator_keys: PinnedKeys | None = None
    edge_signer: Ed25519Signer | None = None
    capacity: Capacity = UNKNOWN
    projects: tuple[str, ...] = ()
    unenforced: tuple[str, ...] = ()
    worker_issuer: WorkerIssuer | None = None
    pods: Path | None = None
    devices: str = ""
    device_rules: tuple[Rule, ...] = ()
    node_state: Callable[[], NodeState] | None = None


def require_signatures(config: AgentConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Raise Refused where the cloud is another machine and nobody has pinned its key: whoever gets between could steer
    this node. ``HELIOGRAPH_INSECURE=1`` accepts that."""
    cloud = ConnectionUrl.parse(config.cloud, "--cloud")
    if config.coordinator_keys or cloud.stays_here or environment.get(INSECURE) == "1":
        return
    raise Refused(
        "insecure", field="--coordinator-keys", got="none",
        expected=f"the coordinator's public keys, since {cloud.host} is another machine",
        hint="Copy the cluster's coordinator-keys.pem, and name it; or type --insecure.",
    )  # fmt: skip


def packages_directory(state: Path) -> Path:
    """Return the directory of an agent's state with the packages of code."""
    return state / "packages"
