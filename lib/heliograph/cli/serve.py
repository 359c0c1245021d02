"""``agent`` and ``coordinator``: the long-running processes, ended by SIGTERM or Ctrl-C."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

_URL = "credentials belong into the variable: an argument can be read by every user of the machine"


def register(app: typer.Typer) -> None:
    app.command(help="Run an edge's agent (or, named cloud, the cloud's).")(agent)
    app.command(help="Run the coordinator.")(coordinator)


def agent(
    name: Annotated[str, typer.Option(envvar="HELIOGRAPH_NAME", help="The edge's name, a DNS label.")],
    cloud: Annotated[str, typer.Option(envvar="HELIOGRAPH_CLOUD", help=f"nats:// of the cloud; {_URL}.")],
    node: Annotated[str, typer.Option(envvar="HELIOGRAPH_NODE", help="mqtt:// of this node's broker.")],
    worker_node: Annotated[str, typer.Option(envvar="HELIOGRAPH_WORKER_NODE", help="The same, for workers.")] = "",
    state: Annotated[Path | None, typer.Option(help="Directory for journal, models and workers.")] = None,
    code: Annotated[
        list[str] | None,
        typer.Option(help="[PREFIX=]DIR under which scripts lie; tasks call it PREFIX. Repeatable."),
    ] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Root under which data sets may lie; repeatable.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="NAME=FILE (npz, csv) to offer; repeatable.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, shown in the edge's spec; repeatable.")] = None,
    worker_memory_mb: Annotated[int, typer.Option(help="Private memory of one worker; 0: no limit.")] = 0,
    worker_nice: Annotated[int, typer.Option(help="Niceness of workers, 0 to 19.")] = 0,
) -> None:
    from heliograph.bus.world import World
    from heliograph.edge_agent.agent import Agent, AgentConfig
    from heliograph.edge_agent.reconcile import CodeRoot
    from heliograph.edge_agent.supervisor import Limits
    from heliograph.server import state_home

    config = AgentConfig(
        name=name,
        cloud=cloud,
        node=node,
        worker_node=worker_node or node,
        state=(state or state_home() / "agents" / name).resolve(),
        code=tuple(CodeRoot.parse(text) for text in code or ()),
        data=tuple(root.resolve() for root in data or ()),
        datasets={key: Path(value).resolve() for key, value in _pairs(dataset, "--dataset").items()},
        labels=_pairs(label, "--label"),
        limits=Limits(worker_memory_mb, worker_nice),
    )
    _run(lambda: Agent(config, World()).run())


def coordinator(
    nats: Annotated[str, typer.Option(envvar="HELIOGRAPH_NATS", help=f"nats:// of the cloud; {_URL}.")],
    system: Annotated[str, typer.Option(envvar="HELIOGRAPH_SYSTEM", help="nats:// with a system user: presence.")] = "",
    status: Annotated[str, typer.Option(envvar="HELIOGRAPH_STATUS", help="mqtt:// that carries retained status.")] = "",
    door: Annotated[
        list[str] | None, typer.Option(envvar="HELIOGRAPH_DOORS", help="mqtt:// of an external door; repeatable.")
    ] = None,
) -> None:
    from heliograph.bus.world import World
    from heliograph.coordinator.coordinator import Coordinator, CoordinatorConfig

    config = CoordinatorConfig(nats=nats, system=system, status=status, doors=tuple(door or ()))
    _run(lambda: Coordinator(config, World()).run())


def _run(main: Callable[[], Awaitable[None]]) -> None:
    import asyncio
    import signal

    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()

    async def until_signalled() -> None:
        task = asyncio.ensure_future(main())
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
    from heliograph.bus.errors import Refused

    found = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key or not value:
            raise Refused("invalid", field=option, expected="NAME=VALUE", got=text)
        found[key] = value
    return found
