"""``init``: make a cloud that systemd runs, or renew one's certificates and change its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from heliograph.cli.usage import examples

_HELP = """Make a cloud in a directory: the broker's configuration, keys, certificates, the operator's login, and units.

Nothing is started. Made again in the same directory, no key changes, certificates that are to end soon are renewed, and
options that are not typed stay as they were."""


def register(app: typer.Typer) -> None:
    app.command(
        help=_HELP,
        epilog=examples(
            "heliograph init ./cloud",
            "heliograph init ./cloud --bind 0.0.0.0 --tls-name cloud.example.org",
            "heliograph init ./cloud --machine a.example.org --machine b.example.org --machine c.example.org",
            "heliograph init ./cloud --servers 5",
            "heliograph init ./cloud --document-key next",
        ),
    )(init)


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="The cloud's directory, new or made before.")],
    bind: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Where the broker listens; beyond loopback by TLS alone."
                                 " Default: 127.0.0.1.")
    ] = None,
    tls_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Host name or address in the broker's certificate, the one for URLs first; "
                     "repeatable. Default: the address, and this machine's name."),
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Port for NATS. Default: 4222.")] = None,
    mqtt_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Port for MQTT. Default: 8883 by TLS, else 1883.")
    ] = None,
    code: Annotated[
        list[str] | None, typer.Option(metavar="[PREFIX=]DIR", help="Root of scripts that the cloud's agent may run; "
                                       "repeatable.")
    ] = None,
    servers: Annotated[
        int | None, typer.Option(metavar="1|3|5", help="Servers of the broker's cluster, each of which keeps"
                                 " everything. Default: 1.")
    ] = None,
    machine: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Host by which everybody reaches a server's machine, this"
                                       " one's first; once for each server. Default: all servers are on this machine,"
                                       " at ports one after the other.")
    ] = None,
    route_port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Port at which servers reach each other. Default: 6222.")
    ] = None,
    leaf_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port at which servers of sites connect ('heliograph site'); 0"
                                 " for none. Default: none.")
    ] = None,
    websocket_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port for WebSocket, where firewalls let only 443 pass; 0 for"
                                 " none. Default: none.")
    ] = None,
    link_patience: Annotated[
        float | None, typer.Option(min=2.1, max=600.0, metavar="SECONDS", help="How long a client may leave the"
                                   " broker's pings unanswered; more than the longest round trip of an edge's link."
                                   " Default: 2.1.")
    ] = None,
    new_authority: Annotated[
        bool, typer.Option("--new-authority", help="Make another certificate authority, which nodes trust beside the "
                           "present one.")
    ] = False,
    document_key: Annotated[
        Literal["next", "sign", "replace"] | None,
        typer.Option(help="Change the key that nodes obey: make the next one, let it sign, or replace a stolen one at "
                     "once."),
    ] = None,
) -> None:  # fmt: skip
    from heliograph.cli.local.clusters import address
    from heliograph.cli.local.init_machine import init_machine
    from heliograph.cli.local.next_steps import say_changes, say_growth, say_key, say_start
    from heliograph.core.private_files import private_files
    from heliograph.core.world import World
    from heliograph.local.cloud_directory import CloudDirectory
    from heliograph.local.cloud_settings import CloudSettings, usual_host

    before = CloudSettings.read(directory)
    if before is not None and before.machine > 1:
        typed = (bind, tls_name, port, mqtt_port, code, servers, machine, route_port, leaf_port, websocket_port,
                 link_patience, document_key)  # fmt: skip
        init_machine(directory, before, any(each is not None for each in typed) or new_authority)
        return
    kept = before or CloudSettings(host=usual_host(machine[0]) if machine else "127.0.0.1")
    settings = CloudSettings(
        address(bind) if bind is not None else kept.host,
        tuple(tls_name) if tls_name else kept.names,
        port or kept.port,
        mqtt_port or kept.mqtt_port,
        tuple(code) if code else kept.code,
        servers or (len(machine) if machine else kept.servers),
        tuple(machine) if machine else kept.machines,
        route_port=route_port or kept.route_port,
        leaf_port=kept.leaf_port if leaf_port is None else leaf_port,
        websocket_port=kept.websocket_port if websocket_port is None else websocket_port,
        patience=link_patience or kept.patience,
    )
    stored = (directory / "broker" / "store").exists()
    settings.check(before, stored)
    world = World()
    with private_files():
        cloud = CloudDirectory(directory, settings, world)
        made = cloud.make(new_authority=new_authority)
        keys = cloud.commands.document_keys
        match document_key:
            case "next":
                keys.prepare_next(world)
            case "sign":
                keys.sign_with_next(world)
            case "replace":
                keys.replace(world)
    if before is None or (before.servers < settings.servers and not stored):
        say_start(cloud)
        return
    if before.servers < settings.servers:
        say_growth(cloud, before.servers, settings.servers)
    else:
        say_changes(cloud, made, new_key=document_key is not None)
    if document_key is not None:
        say_key(document_key)
