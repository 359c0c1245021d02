"""``agent`` and ``coordinator``: the long-running processes, ended by SIGTERM or Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from heliograph.cli.usage import misused

_URL = "credentials belong into the variable: an argument can be read by every user of the machine"


def register(app: typer.Typer) -> None:
    app.command(help="Run an edge's agent (or, named cloud, the cloud's).")(agent)
    app.command(help="Run the coordinator.")(coordinator)


def agent(
    name: Annotated[str, typer.Option(envvar="HELIOGRAPH_NAME", metavar="NAME", help="The edge's name, a DNS label.")],
    cloud: Annotated[
        str, typer.Option(envvar="HELIOGRAPH_CLOUD", metavar="URL", help=f"nats:// of the cloud; {_URL}.")
    ],
    node: Annotated[str, typer.Option(envvar="HELIOGRAPH_NODE", metavar="URL", help="mqtt:// of this node's broker.")],
    worker_node: Annotated[
        str,
        typer.Option(envvar="HELIOGRAPH_WORKER_NODE", metavar="URL", help="The same with the login of workers."),
    ] = "",
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where journal, models and workers' files are kept.")
    ] = None,
    code: Annotated[
        list[str] | None,
        typer.Option(metavar="[PREFIX=]DIR", help="Root of scripts; tasks may call it PREFIX. Repeatable."),
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Root of the files of data sets; repeatable.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="A data set to offer, npz or csv; repeatable.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Shown in the edge's spec; repeatable.")
    ] = None,
    worker_memory_mb: Annotated[
        int, typer.Option(metavar="MB", min=0, help="Private memory of one worker; 0: no limit.")
    ] = 0,
    worker_nice: Annotated[int, typer.Option(metavar="N", min=0, max=19, help="Niceness of workers.")] = 0,
) -> None:
    from heliograph.bus.names import LABEL_RULE, is_label
    from heliograph.bus.world import World
    from heliograph.cli.output import say
    from heliograph.edge_agent.agent import Agent, AgentConfig
    from heliograph.edge_agent.reconcile import CodeRoot
    from heliograph.edge_agent.supervisor import Limits
    from heliograph.server import NATS, Server, check_url, state_home

    if not is_label(name):
        raise misused("--name", expected=LABEL_RULE, got=name)
    config = AgentConfig(
        name=name,
        cloud=check_url(cloud, "--cloud", *NATS),
        node=check_url(node, "--node"),
        worker_node=check_url(worker_node or node, "--worker-node"),
        state=(state or state_home() / "agents" / name).resolve(),
        code=tuple(CodeRoot.parse(text) for text in code or ()),
        data=tuple(root.resolve() for root in data or ()),
        datasets={key: Path(value).resolve() for key, value in _pairs(dataset, "--dataset").items()},
        labels=_pairs(label, "--label"),
        limits=Limits(worker_memory_mb, worker_nice),
    )
    where = f"{Server(cloud).shown}, and on its node to {Server(node).shown}"
    _run(lambda: Agent(config, World(), say), f"agent {name} connects to {where}")


def coordinator(
    nats: Annotated[str, typer.Option(envvar="HELIOGRAPH_NATS", metavar="URL", help=f"nats:// of the cloud; {_URL}.")],
    system: Annotated[
        str, typer.Option(envvar="HELIOGRAPH_SYSTEM", metavar="URL", help="nats:// with a system user: presence.")
    ] = "",
    status: Annotated[
        str, typer.Option(envvar="HELIOGRAPH_STATUS", metavar="URL", help="mqtt:// that carries retained status.")
    ] = "",
    door: Annotated[
        list[str] | None,
        typer.Option(envvar="HELIOGRAPH_DOORS", metavar="URL", help="mqtt:// of an external door; repeatable."),
    ] = None,
) -> None:
    from heliograph.bus.world import World
    from heliograph.cli.output import say
    from heliograph.coordinator.coordinator import Coordinator, CoordinatorConfig
    from heliograph.server import MQTT, NATS, Server, check_url

    config = CoordinatorConfig(
        nats=check_url(nats, "--nats", *NATS),
        system=system and check_url(system, "--system", *NATS),
        status=status and check_url(status, "--status", *MQTT),
        doors=tuple(check_url(url, "--door", *MQTT) for url in door or ()),
    )
    _run(lambda: Coordinator(config, World(), say), f"coordinator connects to {Server(nats).shown}")


class _Component(Protocol):
    def run(self) -> Coroutine[Any, Any, None]: ...


def _run(make: Callable[[], _Component], said: str) -> None:
    """Makes a component in the loop that will run it, says that it begins, and runs it until a signal ends it."""
    import asyncio
    import signal

    from heliograph.cli.output import say

    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()

    async def until_signalled() -> None:
        component = make()
        say(said)
        task = asyncio.create_task(component.run())
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return

    with runner:
        runner.run(until_signalled())


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    found = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise misused(option, expected="NAME=VALUE", got=text)
        found[key] = value
    return found
