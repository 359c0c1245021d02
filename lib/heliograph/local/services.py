"""Files by which systemd runs a cloud: a unit for each component, and the file of its environment.

Secrets stand in neither: the environment names files with logins and keys.
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from pathlib import Path

from heliograph.core.errors import Refused

Command = tuple[list[str], dict[str, str]]
"""Arguments and environment of a process, as ``ClusterCommands`` returns them."""
BROKER, COORDINATOR, CLOUD = "heliograph-broker.service", "heliograph-coordinator.service", "heliograph-cloud.service"
STANDBY = "heliograph-standby.service"
RENEWAL, RENEWAL_TIMER = "heliograph-renewal.service", "heliograph-renewal.timer"
_FREE_FOR_ALL = 1024
STARTED = (BROKER, COORDINATOR, CLOUD, RENEWAL_TIMER)
"""What is enabled and started."""


def environment_file(variables: Mapping[str, str]) -> str:
    """Return the text of a file that systemd and a shell read alike. Raise Refused where a value has a line end."""
    lines = []
    for name, value in variables.items():
        if "\n" in value:
            raise Refused("invalid", field=name, expected="a value without a line end", got="one with it",
                          hint="Name a directory without line ends.")  # fmt: skip
        lines.append(f'{name}="{_escaped(value)}"\n')
    return "".join(lines)


def unit(what: str, argv: Sequence[str], environment: Path, after: str) -> str:
    """Return the unit of a component that starts after another one.

    Args:
        environment: the file of its environment; another one with the suffix ``.local.env``, which the operator may
            write, is read after it.
    """
    own = environment.with_suffix(".local.env")
    settings = [f"EnvironmentFile={_path(environment)}", f"EnvironmentFile=-{_path(own)}"]
    return _service(what, argv, settings, after=after)


def broker_unit(argv: Sequence[str], ports: Sequence[int] = ()) -> str:
    """Return the unit of the broker, which reads certificates again when it is reloaded. It gets the right to listen at
    one of the ``ports`` that only root may, 443 for example."""
    right = ["AmbientCapabilities=CAP_NET_BIND_SERVICE"] if any(0 < port < _FREE_FOR_ALL for port in ports) else []
    settings = ["ExecReload=/bin/kill -HUP $MAINPID", "LimitNOFILE=65536", *right]
    return _service("the cloud's broker", argv, settings, after="network-online.target")


def further_broker(number: int) -> str:
    """Return the name of the unit of a further server on one machine, from 2 on."""
    return f"heliograph-broker-{number}.service"


def renewal_unit(argv: Sequence[str], brokers: Sequence[str] = (BROKER,)) -> str:
    """Return the unit that renews certificates, and lets the brokers of these units read them."""
    return "\n".join((
        "[Unit]", "Description=Heliograph: renew the cloud's certificates", "",
        "[Service]", "Type=oneshot", f"User={getpass.getuser()}", "UMask=0077", f"ExecStart={_command(argv)}",
        f"ExecStartPost=+systemctl try-reload-or-restart {' '.join(brokers)}", "",
    ))  # fmt: skip


def renewal_timer() -> str:
    return "\n".join((
        "[Unit]", "Description=Heliograph: renew the cloud's certificates daily", "",
        "[Timer]", "OnCalendar=daily", "RandomizedDelaySec=1h", "Persistent=true", "",
        "[Install]", "WantedBy=timers.target", "",
    ))  # fmt: skip


def _service(what: str, argv: Sequence[str], settings: Sequence[str], after: str) -> str:
    return "\n".join((
        "[Unit]", f"Description=Heliograph: {what}", f"After={after}", f"Wants={after}", "",
        "[Service]", f"User={getpass.getuser()}", "UMask=0077", *settings, f"ExecStart={_command(argv)}",
        "Restart=always", "RestartSec=2", "NoNewPrivileges=yes", "",
        "[Install]", "WantedBy=multi-user.target", "",
    ))  # fmt: skip


def _command(argv: Sequence[str]) -> str:
    """Return a command line in which systemd replaces nothing."""
    return " ".join(f'"{_escaped(word)}"'.replace("%", "%%").replace("$", "$$") for word in argv)


def _path(file: Path) -> str:
    """Return a path as a setting that is no command takes it: as it stands, but for specifiers."""
    return str(file).replace("%", "%%")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
