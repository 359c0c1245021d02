"""The command lines of a cluster's coordinator and agents, and the environments that they run in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from heliograph.core.child_process import SAFE_PATH
from heliograph.core.cores import usable_cores
from heliograph.core.names import CLOUD
from heliograph.core.private_files import make_private
from heliograph.core.signing import Signer
from heliograph.core.world import World
from heliograph.edge_agent.confinement.site_policy import SitePolicy, written
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.local.cluster_node import Node
from heliograph.local.document_keys import DocumentKeys
from heliograph.local.nats_server import SYSTEM_USER, Broker
from heliograph.login_files import CLOUD_KEYS

WORKER_NICE = 5
"""Niceness of the edges' workers: broker, coordinator and agents answer while all of them train."""
Command = tuple[list[str], dict[str, str]]
"""Arguments, and the variables that a process gets beside those of this one."""


def heliograph(name: str) -> Sequence[str]:
    """Return the command that runs this installation's ``heliograph``, whichever component ``name`` is."""
    return sys.executable, *SAFE_PATH, "-m", "heliograph.cli.main"


@dataclass(frozen=True)
class ClusterCommands:
    """What the command lines of one cluster have in common; ``LocalCluster`` explains the fields of its own arguments.

    Attributes:
        cloud: the cloud's broker.
        directory: that of the cluster, with the files that its processes share.
        patience: factor for the times of the coordinator's lease.
        edges: number of edges on this machine.
    """

    cloud: Broker
    directory: Path
    program: Callable[[str], Sequence[str]] = heliograph
    patience: float = 1.0
    edges: int = 0
    code: Sequence[str] = ()
    data: Sequence[Path] = ()
    headers: Mapping[str, Header] = field(default_factory=dict)
    outputs: Path | None = None
    node_memory: int | None = None
    node_gpus: int | None = None
    login_seconds: int = 86_400
    servers: int = 1
    devices_map: Path | None = None

    @property
    def signing_key(self) -> Path:
        """File of the key that signs versions of models."""
        return self.directory / "signing-key.pem"

    @property
    def model_keys(self) -> Path:
        """File of the keys of which agents trust one to have signed a model."""
        return self.directory / "model-keys.pem"

    @property
    def document_keys(self) -> DocumentKeys:
        """The keys that sign desired documents."""
        return DocumentKeys(self.directory)

    @property
    def starts(self) -> Path:
        """Directory by which agents start few workers at once."""
        return self.directory / "starts"

    @property
    def allowed_packages(self) -> Path:
        """File of digests: the packages of code that every node here may run."""
        return self.directory / "allowed-packages"

    @property
    def site_policy(self) -> Path:
        """File with what workers may reach."""
        return self.directory / "site-policy.toml"

    def write_files(self, world: World, site_policy: SitePolicy) -> None:
        """Write what agents read: the public keys of the private ones, which are made where there are none, and what
        their workers may reach; the cluster's directory is private in any case."""
        make_private(self.directory)
        self.model_keys.write_text(Signer.kept(self.signing_key, world).public_key)
        self.document_keys.write(world)
        self.site_policy.write_text(written(replace(site_policy, private=(*site_policy.private, self.directory))))
        self.allowed_packages.touch(mode=0o600)

    def coordinator(self, name: str, doors: Sequence[str]) -> Command:
        """Return the command of a coordinator with these external doors."""
        environment = {
            "HELIOGRAPH_SIGNING_KEY": str(self.signing_key),
            "HELIOGRAPH_DOCUMENT_KEY": str(self.document_keys.signing),
            "HELIOGRAPH_CLOUD_KEYS": str(self.document_keys.public),
            "HELIOGRAPH_NAME": name,
            "HELIOGRAPH_NATS": self.cloud.url("coordinator"),
            "HELIOGRAPH_SYSTEM": self.cloud.url(SYSTEM_USER),
            "HELIOGRAPH_AUTHORITY": str(self.cloud.identity),
            "HELIOGRAPH_AUTHORITIES": str(self.cloud.tls.own.ca) if self.cloud.tls is not None else "",
            "HELIOGRAPH_LOGIN_SECONDS": str(self.login_seconds),
            "HELIOGRAPH_STATUS": self.cloud.url("coordinator", "mqtt"),
            "HELIOGRAPH_DOORS": " ".join(doors),
            "HELIOGRAPH_REPLICAS": str(self.servers),
            "HELIOGRAPH_PATIENCE": f"{self.patience:g}",
        }
        return [*self.program("coordinator"), "coordinator"], environment

    def agent(self, node: Node, cloud: str) -> Command:
        """Return the command of a node's agent; ``cloud`` is the URL by which it reaches the cloud."""
        return self._agent_arguments(node), self._agent_environment(node, cloud)

    def _agent_environment(self, node: Node, cloud: str) -> dict[str, str]:
        environment = {
            "HELIOGRAPH_CLOUD": cloud,
            "HELIOGRAPH_STARTS": str(self.starts),
            "HELIOGRAPH_ALLOWED_PACKAGES": str(self.allowed_packages),
            "HELIOGRAPH_MODEL_KEYS": str(self.model_keys),
            "HELIOGRAPH_COORDINATOR_KEYS": str(self._obeyed(node)),
            "HELIOGRAPH_EDGE_KEY": str(node.key),
            "HELIOGRAPH_SITE_POLICY": str(self.site_policy),
        }
        if "OMP_NUM_THREADS" not in os.environ:  # share the cores among the edges; by default each would use all
            environment["OMP_NUM_THREADS"] = str(max(1, usable_cores() // max(1, self.edges)))
        if node.name == CLOUD:
            return environment | {"HELIOGRAPH_NODE": cloud, "HELIOGRAPH_WORKER_NODE": self.cloud.url(),
                                  "HELIOGRAPH_WORKER_ISSUER": str(self.cloud.worker_issuer)}  # fmt: skip
        if self.devices_map is not None:
            environment["HELIOGRAPH_DEVICES_MAP"] = str(self.devices_map)
        if node.broker is None:
            return environment | {"HELIOGRAPH_NODE": node.external_broker}
        return environment | {
            "HELIOGRAPH_NODE": node.broker.url("agent", "mqtt"),
            "HELIOGRAPH_WORKER_NODE": node.broker.url(scheme="mqtt"),
            "HELIOGRAPH_WORKER_ISSUER": str(node.broker.worker_issuer),
        }

    def _obeyed(self, node: Node) -> Path:
        """Return the file of the keys that a node obeys: an edge's are renewed with its login."""
        return self.document_keys.public if node.name == CLOUD else node.identity / CLOUD_KEYS

    def _agent_arguments(self, node: Node) -> list[str]:
        argv = [*self.program(node.name), "agent", "--name", node.name, "--state", str(node.state)]
        if node.name != CLOUD:  # the coordinator and the aggregation come first
            argv += ["--worker-nice", str(WORKER_NICE)]
            for option, number in (("--memory-mb", self.node_memory), ("--gpus", self.node_gpus)):
                argv += [option, str(number)] if number is not None else []
        for root in self.code:
            argv += ["--code", root]
        for directory in self.data:
            argv += ["--data", str(directory)]
        if self.outputs is not None:
            argv += ["--outputs", str(self.outputs.resolve() / node.name)]
        for dataset, path in node.datasets.items():
            argv += ["--dataset", f"{dataset}={path.resolve()}"]
            if dataset in self.headers:
                argv += ["--header", f"{dataset}={self.headers[dataset]}"]
        return argv


def patience_for(edges: int, cores: int) -> float:
    """Return the factor for the times of the coordinator's lease and of the brokers' pings: with many edges for each
    core a process may wait for one longer than they last."""
    return max(1.0, edges / (5 * cores))
