"""``agent``: its options, and the process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.cli.process_options import CREDENTIALS, ProcessOptions
from heliograph.cli.running import Component, run_until_signalled

if TYPE_CHECKING:
    from heliograph.bus.nats.worker_issuer import WorkerIssuer
    from heliograph.edge_agent.devices.mapping import Rule
    from heliograph.enrolment import Enrolment


def main(words: Sequence[str]) -> int:
    """Run the agent of a node; return the exit code."""
    run_until_signalled(*_prepared(words))  # the options stay in no memory meanwhile
    return 0


def _options() -> ProcessOptions:
    parser = ProcessOptions("agent")
    parser.setting(
        "--name", "HELIOGRAPH_NAME", "NAME", "The edge's name, a DNS label. Default: the one by which the node has"
        " enrolled that --state is of.", "",
    )  # fmt: skip
    parser.setting(
        "--cloud", "HELIOGRAPH_CLOUD", "URL", f"nats:// URL of the cloud; {CREDENTIALS}. Default: where this node has"
        " enrolled.", "",
    )  # fmt: skip
    parser.setting("--node", "HELIOGRAPH_NODE", "URL", "mqtt:// URL of this node's broker.")
    parser.setting("--worker-node", "HELIOGRAPH_WORKER_NODE", "URL", "The node's broker with the workers' login.", "")
    parser.setting(
        "--worker-issuer", "HELIOGRAPH_WORKER_ISSUER", "FILE", "Key of the cloud's authority: it signs a login for each"
        " launch of a worker. Default: workers share the login of --worker-node.", "",
    )  # fmt: skip
    parser.setting(
        "--worker-broker", "HELIOGRAPH_WORKER_BROKER", "node|own", "Which broker workers use: that of --node, or one of"
        " the agent's own that lets nobody in without a login. Then --node is the devices' alone.", "node",
    )  # fmt: skip
    parser.add_argument("--state", type=Path, metavar="DIR", help="Directory of journal, models and workers' files.")
    parser.switch("--wait", "HELIOGRAPH_WAIT", "Wait where another agent runs on that directory, until it has ended."
                  " Default: end with an error.")  # fmt: skip
    parser.add_argument("--outputs", type=Path, metavar="DIR", help="Directory where scripts run.")
    parser.repeatable("--code", "[PREFIX=]DIR", "Root of scripts; tasks may name it PREFIX.")
    parser.repeatable("--allow-package", "DIGEST", "SHA-256 of a package of code that may run here.")
    parser.setting(
        "--allowed-packages", "HELIOGRAPH_ALLOWED_PACKAGES", "FILE", "File of such digests, one a line; it is read"
        " again when it changes.", "",
    )  # fmt: skip
    parser.setting(
        "--package-keys", "HELIOGRAPH_PACKAGE_KEYS", "FILE", "Public keys in PEM: a package that one of them has signed"
        " may run here.", "",
    )  # fmt: skip
    parser.repeatable("--data", "DIR", "Root of the files of data sets.")
    parser.repeatable("--dataset", "NAME=PATH", "A data set to offer: a file, or a directory of files or images.")
    parser.repeatable("--header", "NAME=yes|no", "Whether the first line of such a csv names its columns.")
    parser.repeatable("--label-column", "NAME=COLUMN", "The column or array with the labels of such a data set.")
    parser.add_argument(
        "--tell-labels", action="store_true", help="Tell the cloud how often each label occurs in the data sets."
    )
    parser.repeatable("--label", "KEY=VALUE", "A label of the edge, in its spec.")
    parser.setting(
        "--model-keys", "HELIOGRAPH_MODEL_KEYS", "FILE", "Public keys in PEM: this node serves a model only if one of"
        " them has signed it. Default: no signature is needed.", "",
    )  # fmt: skip
    parser.setting(
        "--coordinator-keys", "HELIOGRAPH_COORDINATOR_KEYS", "FILE", "Public keys (Ed25519, PEM) of the coordinator:"
        " this node obeys only what one of them has signed. Needed where the cloud is another machine.", "",
    )  # fmt: skip
    parser.setting(
        "--edge-key", "HELIOGRAPH_EDGE_KEY", "FILE", "Private key (Ed25519, PEM) of the edge, made where there is no"
        " such file: no agent of its name with another key is heeded. Default: none.", "",
    )  # fmt: skip
    parser.setting(
        "--site-policy", "HELIOGRAPH_SITE_POLICY", "FILE", "What workers may reach on this node, as TOML. Default:"
        " their own files, and the node's broker.", "",
    )  # fmt: skip
    parser.setting(
        "--devices-map", "HELIOGRAPH_DEVICES_MAP", "FILE", "Which device and event the topics of this node's devices"
        " stand for, as TOML. Default: event/telemetry/EDGE/DEVICE alone.", "",
    )  # fmt: skip
    parser.number("--worker-memory-mb", "MB", 1 << 24, "Private memory of one worker; 0 sets no limit.")
    parser.number("--worker-nice", "N", 19, "Niceness of workers.")
    parser.setting(
        "--starts", "HELIOGRAPH_STARTS", "DIR", "Directory that agents of one machine share: no more workers start"
        " at once than it has cores. They share the offers of their workers too. Default: one of this agent alone.", "",
    )  # fmt: skip
    parser.setting(
        "--pods", "HELIOGRAPH_PODS", "DIR", "Run workers whose spec names an image as pods of this node; a directory"
        " that they share with this agent, at the same path in their pods. Default: no pods.", "",
    )  # fmt: skip
    parser.number(
        "--memory-mb", "MB", 1 << 30, "Memory for workers that ask for some (resources.memory); 0 bounds nothing."
        " Default: this node's, but for a sixteenth.", None,
    )  # fmt: skip
    parser.number("--gpus", "N", 1024, "GPUs for workers that ask (resources.gpus). Default: this node's.", None)
    parser.number("--journal-mb", "MB", 1 << 24, "Disk space for events that wait for the cloud.", 1024)
    return parser


def _prepared(words: Sequence[str]) -> tuple[Callable[[], Awaitable[Component]], str]:
    """Return what makes the agent that the options describe, and its greeting."""
    parser = _options()
    given = parser.parse_args(words)

    from heliograph.bus.connection_url import NATS
    from heliograph.cli.printing.output import say
    from heliograph.core.ed25519_signer import Ed25519Signer
    from heliograph.core.errors import shorten
    from heliograph.core.names import LABEL_RULE, is_label
    from heliograph.core.world import World
    from heliograph.edge_agent.agent import Agent
    from heliograph.edge_agent.agent_config import AgentConfig, packages_directory, require_signatures
    from heliograph.edge_agent.code_roots import CodeRoot
    from heliograph.edge_agent.confinement.cgroups import WorkerGroups
    from heliograph.edge_agent.confinement.confiner import Confiner, Limits
    from heliograph.edge_agent.confinement.site_policy import SitePolicy, read_site_policy
    from heliograph.edge_agent.launcher import Launcher
    from heliograph.edge_agent.node_capacity import node_capacity
    from heliograph.edge_agent.node_state import read_node_state
    from heliograph.edge_agent.outputs import Outputs
    from heliograph.edge_agent.pinned_keys import PinnedKeys
    from heliograph.edge_agent.process_launcher import ProcessLauncher
    from heliograph.edge_agent.start_permits import StartPermits
    from heliograph.edge_agent.state_lock import wait_for_state
    from heliograph.server import IDENTITY, Server, check_url, identity_directory, state_home

    if not given.name:
        known = _enrolled(given.state.resolve() / IDENTITY) if given.state is not None else None
        if known is None:
            parser.error("missing option --name, and no --state directory of a node that has enrolled")
        given.name = known.edge
    if not is_label(given.name):
        parser.error(f"invalid value for --name: expected {LABEL_RULE}, got {shorten(given.name)}")
    if given.worker_broker not in ("node", "own"):
        parser.error(f"invalid value for --worker-broker: expected node or own, got {shorten(given.worker_broker)}")
    if given.worker_broker == "own" and (given.worker_node or given.worker_issuer):
        parser.error("--worker-broker own beside --worker-node or --worker-issuer: the agent's own broker has its own"
                     " logins")  # fmt: skip
    code = tuple(CodeRoot.parse(text) for text in given.code)
    for root in code:
        parser.directory("--code", root.directory)
    state = (given.state or state_home() / "agents" / given.name).resolve()
    if not given.cloud:
        from heliograph.login_files import CLOUD_KEYS

        enrolled = _enrolled(identity_directory(given.name, given.state))
        if enrolled is None or enrolled.edge != given.name:
            parser.error("missing option --cloud, and this node has not enrolled: heliograph enroll INVITATION")
        given.cloud = enrolled.cloud
        keys = identity_directory(given.name, given.state) / CLOUD_KEYS
        given.coordinator_keys = given.coordinator_keys or (str(keys) if keys.exists() else "")
    policy = read_site_policy(Path(given.site_policy)) if given.site_policy else SitePolicy()
    groups = WorkerGroups.of_this_process() if policy.files == "own" else None
    confiner = Confiner(policy, Limits(given.worker_memory_mb, given.worker_nice), (state,), groups)
    config = AgentConfig(
        name=given.name,
        cloud=check_url(given.cloud, "--cloud", *NATS),
        node=check_url(given.node, "--node"),
        worker_node=check_url(given.worker_node or given.node, "--worker-node"),
        state=state,
        code=code,
        data=tuple(parser.directory("--data", Path(root).resolve()) for root in given.data),
        datasets={key: Path(value).resolve() for key, value in parser.pairs(given.dataset, "--dataset").items()},
        labels=parser.pairs(given.label, "--label"),
        quota=max(1, given.journal_mb) << 20,
        headers=parser.headers(given.header),
        allowed_packages=parser.digests(given.allow_package, "--allow-package"),
        allowed_packages_file=Path(given.allowed_packages).resolve() if given.allowed_packages else None,
        package_keys=_keys(given.package_keys),
        model_keys=_keys(given.model_keys),
        coordinator_keys=PinnedKeys(Path(given.coordinator_keys)) if given.coordinator_keys else None,
        projects=policy.projects,
        edge_signer=Ed25519Signer.kept(Path(given.edge_key), World()) if given.edge_key else None,
        capacity=node_capacity(given.memory_mb << 20 if given.memory_mb is not None else None, given.gpus),
        label_columns=parser.pairs(given.label_column, "--label-column"),
        tells_labels=given.tell_labels,
        unenforced=tuple(confiner.unenforced),
        worker_issuer=_worker_issuer(given.worker_issuer),
        pods=Path(given.pods).resolve() if given.pods else None,
        device_rules=_device_rules(given.devices_map, given.name),
        node_state=read_node_state,
    )
    require_signatures(config)
    where = f"{Server(given.cloud).shown}, and on its node to {Server(given.node).shown}"
    world = World()
    outputs = Outputs((given.outputs or config.state / "outputs").resolve(), (config.state,),
                      packages_directory(config.state))  # fmt: skip
    workers = config.state / "workers"
    permits = StartPermits(Path(given.starts or workers / ".starts").resolve(), world, shared=bool(given.starts))
    launcher: Launcher = ProcessLauncher(world, workers, confiner, outputs, permits)
    if config.pods is not None:
        from heliograph.edge_agent.node_launcher import NodeLauncher
        from heliograph.edge_agent.pod_launcher import PodLauncher

        pods = PodLauncher(world, config.pods, (config.state,), packages_directory(config.state))
        launcher = NodeLauncher(launcher, pods)

    async def make() -> Component:
        lock = await wait_for_state(config.state, world, say) if given.wait else None
        if given.worker_broker == "node":
            return Agent(config, launcher, world, say, lock)
        from heliograph.local.worker_broker import WithWorkerBroker, using

        lock = lock if lock is not None else world.lock_directory(config.state)
        return WithWorkerBroker(
            config.state / "broker", given.name,
            lambda broker: Agent(using(broker, config), launcher, world, say, lock).run(), world, say,
        )  # fmt: skip

    return make, f"agent {given.name} connects to {where}"


def _device_rules(file: str, edge: str) -> tuple[Rule, ...]:
    """Return the rules of the mapping of devices. Raise Refused where they cannot be those of this edge."""
    if not file:
        return ()
    from heliograph.edge_agent.devices.mapping_file import read_mapping

    return read_mapping(Path(file), edge).rules


def _keys(file: str) -> Mapping[str, str]:
    if not file:
        return {}
    from heliograph.core.signing import trusted_keys

    return trusted_keys(Path(file))


def _worker_issuer(file: str) -> WorkerIssuer | None:
    if not file:
        return None
    from heliograph.bus.nats.worker_issuer import WorkerIssuer

    return WorkerIssuer.read(Path(file))


def _enrolled(identity: Path) -> Enrolment | None:
    """Return what an edge's files of its enrolment say, if there are any; an agent that is told all reads none."""
    from heliograph.enrolment import Enrolment

    return Enrolment.read(identity)
