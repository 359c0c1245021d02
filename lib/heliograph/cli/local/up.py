"""``up``: a cluster that runs until Ctrl-C, with example commands that work as printed."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from heliograph.bus.contract.permissions import participant_login, participant_of
from heliograph.cli.printing.output import paint, say
from heliograph.client import AsyncClient
from heliograph.core.errors import HeliographError
from heliograph.core.names import CLOUD
from heliograph.core.private_files import write_private
from heliograph.core.world import World
from heliograph.edge_agent.confinement.site_policy import CONFINED, SitePolicy
from heliograph.local.cluster import HERE, LocalCluster
from heliograph.local.cluster_tls import Listening
from heliograph.local.cluster_users import OPERATOR, check_participant, check_user
from heliograph.local.demo import digits
from heliograph.local.follow_job import LEADER_TIMEOUT, wait_for_offers
from heliograph.local.logins import Logins, cluster_document, remove_user_files, write_user_files
from heliograph.local.ports import DOOR_AT, fixed_ports, require_free, set_ports
from heliograph.local.roots import resolved_directory, resolved_root
from heliograph.server import cluster_file, users_directory

EXAMPLE = Path("examples/federated-task.json")


@dataclass(frozen=True)
class Options:
    """The options of ``up``, as typed.

    Attributes:
        users: names of users who get a login beside the operator.
        participants: names of programs that train by themselves, and get a login to take part in jobs.
        websocket, websocket_origins: see ``Broker``.
        mosquitto: whether people's door is a mosquitto, which speaks MQTT 5.
        port: the first of the cluster's ports; 0 for those of the last start with the same state, or any.
        node_memory, node_gpus, site_policy, listening, devices_map: see ``LocalCluster``.
    """

    edges: int
    seed: int
    edge_brokers: Mapping[str, str]
    code: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()
    users: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()
    websocket: bool = False
    websocket_origins: tuple[str, ...] = ()
    mosquitto: bool = False
    port: int = 0
    node_memory: int | None = None
    node_gpus: int | None = None
    site_policy: SitePolicy = CONFINED
    listening: Listening = HERE
    devices_map: Path | None = None


async def serve(directory: Path, options: Options, world: World) -> None:
    """Run a cluster until cancelled. Raise HeliographError if a cluster of this user is already up."""
    file, home = cluster_file(), users_directory()
    _refuse_second(file)
    code = tuple(resolved_root(root) for root in options.code)  # refused before anything starts
    data = tuple(resolved_directory(root, "data") for root in options.data)
    edges = options.edges
    names = [f"edge-{number + 1}" for number in range(edges)]
    for name in options.users:
        check_user(name, (*names, CLOUD))
    for name in options.participants:
        check_participant(name, (*names, CLOUD))
    users = tuple(dict.fromkeys((OPERATOR, *options.users)))
    participants = {participant_login(name): name for name in options.participants}
    logins = Logins(directory, (*users, *participants), world)
    own = [name for name in names if name not in options.edge_brokers]
    ports, edges_ports = fixed_ports(options.port, own)
    if options.port:
        used = [port for name, port in ports.items() if options.websocket or name != "websocket_port"]
        used += [options.port + DOOR_AT] if options.mosquitto else []
        require_free(used, options.listening.host)
        require_free(port for each in edges_ports.values() for port in each.values())
    began = world.monotonic()
    say(f"starting broker, coordinator and {edges + 1} agents …")
    sample = await _sample_data(directory, names, options.seed, world)
    script = digits.SCRIPTS["numpy"]
    cluster = LocalCluster(
        directory, names, datasets=sample, code=(script.parent, *code), data=data,
        edge_brokers=options.edge_brokers, logins={name: logins.tokens[name] for name in users},
        participants={name: logins.tokens[login] for login, name in participants.items()}, websocket=options.websocket,
        websocket_origins=options.websocket_origins, mosquitto=options.mosquitto, world=world,
        log=directory / "log.txt",
        supervise=lambda line: say(paint(line, "yellow")), node_memory=options.node_memory,
        node_gpus=options.node_gpus, site_policy=options.site_policy, listening=options.listening,
        devices_map=options.devices_map,
        renewed=lambda: rewrite_files(),
    )  # fmt: skip

    def write_files() -> Mapping[str, Path]:
        files_of = cluster.tls.files_of if cluster.tls is not None else None
        return write_user_files(home, cluster.broker, users, cluster.mosquitto, participants=participants,
                                files_of=files_of)  # fmt: skip

    def rewrite_files() -> None:
        write_files()

    brokers = cluster.node_brokers
    if options.port:
        set_ports(cluster.broker, ports)
        if cluster.mosquitto is not None:
            cluster.mosquitto.broker.port = options.port + DOOR_AT
        for name, node in brokers.items():
            set_ports(node, edges_ports[name])
    else:
        for line in logins.choose_ports(cluster.broker, cluster.mosquitto, brokers):
            say(paint(line, "yellow"))
    async with cluster:
        logins.save(cluster.broker, cluster.mosquitto, brokers)
        async with AsyncClient(cluster.server, leader_timeout=LEADER_TIMEOUT) as client:
            await wait_for_offers(client, sample)
            if sample:
                await client.models.apply(digits.model())
        try:
            directories = write_files()
            file.parent.mkdir(parents=True, exist_ok=True)
            mine = cluster_document(cluster.broker, OPERATOR, cluster.mosquitto, cluster.allowed_packages)
            write_private(file, mine)
            _say_addresses(cluster, world.monotonic() - began)
            _say_logins(directories, file)
            if sample:
                _say_example(directory, directories[OPERATOR])
            say("")
            say("Ctrl-C stops the cluster.")
            await asyncio.Event().wait()
        finally:
            file.unlink(missing_ok=True)
            remove_user_files(home)
            say("stopping …")


async def _sample_data(directory: Path, names: list[str], seed: int, world: World) -> dict[str, dict[str, Path]]:
    """Return the digits for the example; none if scikit-learn is not installed."""
    try:
        return digits.datasets(await world.in_thread(digits.write_digits, directory / "data", names, seed))
    except HeliographError as error:
        say(paint(f"no sample data on the edges: {error}", "yellow"))
        return {}


def _refuse_second(file: Path) -> None:
    if not file.exists():
        return
    try:
        pid = json.loads(file.read_text())["pid"]
        os.kill(int(pid), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return  # a killed cluster left the file
    raise HeliographError(f"a cluster is up already, process {pid}; stop it with Ctrl-C or 'kill {pid}' first")


def _say_addresses(cluster: LocalCluster, seconds: float) -> None:
    say(paint(f"up in {seconds:.1f} s: {', '.join(cluster.edges)}", "bold"))
    broker = cluster.broker
    version = "3.1.1" if cluster.mosquitto is None else "5 and 3.1.1, by mosquitto"
    say(f"MQTT  {cluster.public_door}, version {version}")
    say(f"NATS  {broker.public_url()}")
    if broker.websocket:
        allowed = " and ".join(broker.websocket_origins) or "its own origin alone"
        say(f"WebSocket  {broker.websocket_url}, for MQTT with the path /mqtt; pages of {allowed}")
    if cluster.tls is not None:
        certificates = cluster.tls.certificates
        say(f"TLS  clients trust {certificates.ca}, authority {', '.join(certificates.hashes())}")
    for name, node in cluster.nodes.items():
        if name in cluster.edges:
            url = node.broker.url(scheme="mqtt") if node.broker is not None else node.external_broker
            say(f"MQTT  {url} on {name}, for its devices")


def _say_logins(directories: Mapping[str, Path], file: Path) -> None:
    """Say where each login is; the tokens stay in their files."""
    say("")
    say(f"Whoever asks for anything logs in. Your login is in {file}, where this command line finds it,")
    say(f"and in {directories[OPERATOR]}, for MQTT clients.")
    for name, directory in directories.items():
        if name != OPERATOR:
            who = f"participant {participant_of(name)}" if participant_of(name) else f"user {name}"
            say(f"{who}: {directory}")


def _say_example(directory: Path, login: Path) -> None:
    """Say how to publish a task and to watch it, in lines that work as they stand."""
    task = EXAMPLE
    if not EXAMPLE.exists():
        task = directory / EXAMPLE.name
        task.write_text(json.dumps(digits.task(), indent=2) + "\n")
    with_login = f"XDG_CONFIG_HOME={shlex.quote(str(login))}"
    say("")
    say("publish a task and watch it:")
    say(f"    {with_login} mosquitto_pub -q 1 -t heliograph/request/jobs/create -f {shlex.quote(str(task))}")
    say(f"    {with_login} mosquitto_sub -t 'heliograph/status/#' -v")
    say("    heliograph watch jobs/digits")
