"""``device``: its commands. ``add``, ``list``, ``remove`` and ``setup`` are about devices of a node whose mosquitto has
dynamic security."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from heliograph.cli.identity.device_topics import topics
from heliograph.cli.usage import examples, misused, without_command

app = typer.Typer(help="Topics of this node's devices, and their logins at a mosquitto, 2.0 or later.",
                  invoke_without_command=True)  # fmt: skip
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the device, a DNS label.")]
BrokerOption = Annotated[
    str | None,
    typer.Option(metavar="URL|FILE", help="mqtt:// URL of the broker with the administrator's login, or a file with it,"
                 " as 'setup' writes. Default: HELIOGRAPH_DEVICE_ADMIN."),
]  # fmt: skip
_VARIABLE = "HELIOGRAPH_DEVICE_ADMIN"


def register(main: typer.Typer) -> None:
    app.callback()(without_command)
    app.command(help="Make a device's login, which publishes as that device alone, and write it into a file.",
                epilog=examples("heliograph device add camera --broker admin.url"))(add)  # fmt: skip
    app.command("list", help="Name the devices that have a login.",
                epilog=examples("heliograph device list --broker admin.url"))(list_devices)  # fmt: skip
    app.command(help="Take a device's login away: its connection ends.",
                epilog=examples("heliograph device remove camera --broker admin.url"))(remove)  # fmt: skip
    app.command(
        help="Write the settings of mosquitto's dynamic security, with logins for its administrator and the agent;"
        " print the lines for mosquitto.conf.",
        epilog=examples("heliograph device setup /etc/mosquitto/devices"),
    )(setup)  # fmt: skip
    app.command(
        help="Listen at this node's broker, and say of each topic which device and event the mapping makes of it.",
        epilog=examples("heliograph device topics --broker mqtt://127.0.0.1:1883 --devices-map devices.toml"),
    )(topics)  # fmt: skip
    main.add_typer(app, name="device")


def add(
    name: NameArgument,
    broker: BrokerOption = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(metavar="FILTER", help="Further topics, which it may publish and read, as zigbee2mqtt/#;"
                     " repeatable."),
    ] = None,
) -> None:  # fmt: skip
    import asyncio

    from heliograph.cli.printing.output import say
    from heliograph.core.world import World
    from heliograph.devices import add as make

    file = asyncio.run(make(broker_url(broker, _VARIABLE), name, _directory(), World(), foreign=topic or ()))
    say(f"device/{name} added; its URL with its login lies in {file}")


def list_devices(broker: BrokerOption = None) -> None:
    import asyncio

    from heliograph.cli.printing.output import say
    from heliograph.core.world import World
    from heliograph.devices import names

    for name in asyncio.run(names(broker_url(broker, _VARIABLE), World())):
        say(name)


def remove(name: NameArgument, broker: BrokerOption = None) -> None:
    import asyncio

    from heliograph.cli.printing.output import say
    from heliograph.core.world import World
    from heliograph.devices import remove as take

    asyncio.run(take(broker_url(broker, _VARIABLE), name, _directory(), World()))
    say(f"device/{name} removed")


def setup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the settings and the two logins come.")],
    broker: Annotated[
        str, typer.Option(metavar="URL", help="URL by which this node reaches its mosquitto.")
    ] = "mqtt://127.0.0.1:1883",
    plugin: Annotated[
        str | None, typer.Option(metavar="FILE", help="The plugin. Default: the one of mosquitto's package.")
    ] = None,
    devices_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The agent's mapping of devices, whose topics it reads. Default: none."),
    ] = None,
) -> None:  # fmt: skip
    import sys

    from heliograph.bus.connection_url import MQTT
    from heliograph.bus.contract.topics import DEFAULT_ROOT
    from heliograph.core.world import World
    from heliograph.devices import find_plugin, write_settings
    from heliograph.edge_agent.devices.mapping import filters_of
    from heliograph.edge_agent.devices.mapping_file import read_rules
    from heliograph.server import check_url

    if (directory / "dynamic-security.json").exists():
        raise misused("DIR", expected="a directory without dynamic-security.json", got=str(directory))
    url = check_url(broker, "--broker", *MQTT)
    foreign = filters_of(read_rules(devices_map), f"{DEFAULT_ROOT}/#") if devices_map is not None else ()
    sys.stdout.write(write_settings(directory, url, plugin or str(find_plugin()), World(), foreign=foreign))


def broker_url(given: str | None, variable: str) -> str:
    """Return the URL of ``--broker``, which may be a file with it, or of an environment variable. Raise a mistake of
    usage where there is none."""
    from heliograph.bus.connection_url import MQTT
    from heliograph.server import check_url

    text = given or os.environ.get(variable, "")
    if not text:
        raise misused("--broker", expected="the URL of the broker, or a file with it", got="nothing")
    if "://" not in text:
        try:
            text = Path(text).read_text().strip()
        except OSError as error:
            raise misused("--broker", expected="a readable file", got=f"{given}: {error.strerror}") from None
    return check_url(text, "--broker", *MQTT)


def _directory() -> Path:
    from heliograph.server import state_home

    return state_home() / "devices"
