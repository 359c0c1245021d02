"""``init`` in a directory that was carried here: make one server of a cloud's cluster at home on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heliograph.local.cloud_settings import CloudSettings


def init_machine(directory: Path, settings: CloudSettings, options: bool) -> None:
    """Write configuration and units of the server, and renew its certificates. Raise Refused where ``options`` were
    typed: they are the first machine's."""
    from shlex import quote

    from heliograph.cli.printing.output import paint, say
    from heliograph.core.errors import Refused
    from heliograph.core.private_files import private_files
    from heliograph.core.world import World
    from heliograph.local.cluster_commands import heliograph
    from heliograph.local.machine_directory import MachineDirectory
    from heliograph.local.services import BROKER, RENEWAL_TIMER

    first, own = settings.machines[0], settings.machines[settings.machine - 1]
    if options:
        raise Refused("invalid", field="DIRECTORY", expected="no options", got=f"what was carried to {own}",
                      hint=f"Type them on {first}, and carry this machine's directory here again.")  # fmt: skip
    settings.check()
    with private_files():
        machine = MachineDirectory(directory, settings, World())
        started = machine.broker.config_file.exists()
        renewed, changed = machine.make(heliograph("init"))
    if not started:
        say(paint(f"server {settings.machine} of {settings.servers} is made in {machine.directory}", "bold"))
        say("start it, and let it start with the machine:")
        say(f"    sudo cp {quote(str(machine.units))}/* /etc/systemd/system/")
        say("    sudo systemctl daemon-reload")
        say(f"    sudo systemctl enable --now {BROKER} {RENEWAL_TIMER}")
        return
    say(f"certificates: {'renewed' if renewed else 'none is due'}")
    if changed:
        say(f"the broker's configuration has changed: sudo systemctl restart {BROKER}")
    elif renewed:
        say(f"let the broker read them: sudo systemctl reload {BROKER}")
