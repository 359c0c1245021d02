"""What ``init`` says is to be done next, in lines that work as they stand."""

from __future__ import annotations

from collections.abc import Iterable
from shlex import quote
from typing import Literal

from heliograph.cli.printing.output import paint, say
from heliograph.local.broker_tls import in_url
from heliograph.local.cloud_directory import CloudDirectory, Made
from heliograph.local.services import BROKER, CLOUD, COORDINATOR, STARTED

_CURRENT = 60
"""Seconds that a server has to fetch what the others have, before the operator looks what hinders it."""


def say_start(cloud: CloudDirectory) -> None:
    """Say how to start a cloud that has been made."""
    units = [*cloud.broker_units, *(each for each in STARTED if each != BROKER)]
    say(paint(f"the cloud is made in {cloud.directory}", "bold"))
    say(f"NATS  {cloud.broker.public_url()}")
    say(f"MQTT  {cloud.broker.public_url(scheme='mqtt')}")
    if cloud.broker.websocket:
        say(f"WebSocket  {cloud.broker.websocket_url}, for MQTT with the path /mqtt")
    if cloud.tls is not None:
        certificates = cloud.tls.certificates
        say(f"TLS  clients trust {certificates.ca}, authority {', '.join(certificates.hashes())}")
    if hosts := cloud.carried_to:
        say("")
        say("carry what each other machine needs there, by a way that nobody can read, and make its units:")
        for host in hosts:
            say(f"    scp -rp {quote(str(cloud.machine(host)))} {in_url(host)}:heliograph")
            say(f"    ssh {host} heliograph init heliograph")
    say("")
    say("start it, and let it start with the machine:")
    _say_units(cloud, units)
    say("then look whether all is well, and invite a node:")
    say(f"    export HELIOGRAPH_SERVER={quote(str(cloud.operator))}")
    say("    heliograph doctor")
    say("    heliograph edge invite edge-1")


def say_growth(cloud: CloudDirectory, before: int, servers: int) -> None:
    """Say how servers join a cluster that runs: the new ones first, so that a majority runs all the time."""
    wait = f"    heliograph servers {quote(str(cloud.directory))} --wait {_CURRENT}"
    say(paint(f"the cluster grows from {before} to {servers} servers, and runs meanwhile", "bold"))
    if hosts := cloud.carried_to[before - 1 :]:
        say("carry what each new machine needs there, by a way that nobody can read, and start what it says:")
        _say_carried(cloud, hosts)
    else:
        say("start the new servers:")
        _say_units(cloud, cloud.broker_units[before:])
    say("wait until they have all that the others have:")
    say(wait)
    say("let the others know them, one after the other:")
    for unit in cloud.broker_units[:before]:
        say(f"    sudo systemctl restart {unit}")
        say(wait)
    for host in cloud.carried_to[: before - 1]:
        _say_carried(cloud, [host])
        say(f"    ssh {host} sudo systemctl restart {BROKER}")
        say(wait)
    say(f"let streams have {servers} replicas:")
    say(f"    sudo systemctl restart {COORDINATOR} {CLOUD}")
    say(wait)


def say_changes(cloud: CloudDirectory, made: Made, new_key: bool) -> None:
    """Say what a cloud that there was before needs.

    Args:
        new_key: whether another key was made or signs, of which ``say_key`` says what it needs.
    """
    units = " ".join(cloud.broker_units)
    if made.carried:
        say("carry these to their machines again, by a way that nobody can read:")
        _say_carried(cloud, made.carried)
    if cloud.tls is not None:
        say(f"certificates: {'renewed' if made.renewed else 'none is due'}")
    if made.changed:
        one = ", one after the other" if len(cloud.broker_units) > 1 else ""
        say(f"the broker's configuration has changed: sudo systemctl restart {units}{one}")
    elif made.renewed:
        say(f"let the broker read them: sudo systemctl reload {units}")
    elif cloud.tls is None and not new_key and not made.carried:
        say("nothing has changed")


def say_key(change: Literal["next", "sign", "replace"]) -> None:
    """Say what a change of the key that signs documents needs."""
    if change == "next":
        say("the next key is made; nodes learn of it as their logins are renewed. After a day: --document-key sign")
    else:
        say(f"another key signs now, once the coordinator starts again: sudo systemctl restart {COORDINATOR}")


def _say_units(cloud: CloudDirectory, units: Iterable[str]) -> None:
    say(f"    sudo cp {quote(str(cloud.units))}/* /etc/systemd/system/")
    say("    sudo systemctl daemon-reload")
    say(f"    sudo systemctl enable --now {' '.join(units)}")


def _say_carried(cloud: CloudDirectory, hosts: Iterable[str]) -> None:
    for host in hosts:  # what is in it: the directory would come to lie in the one that is there
        say(f"    ssh {host} mkdir -p -m 700 heliograph")
        say(f"    scp -rp {quote(str(cloud.machine(host)))}/* {in_url(host)}:heliograph/")
        say(f"    ssh {host} heliograph init heliograph")
