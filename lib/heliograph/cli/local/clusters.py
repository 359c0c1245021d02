"""``demo`` and ``up``: clusters on this machine that end with the command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer

from heliograph.cli.usage import examples

if TYPE_CHECKING:
    from heliograph.cli.local.lines import Lines
    from heliograph.cli.local.screen import Screen

T = TypeVar("T")

EdgesOption = Annotated[int, typer.Option(min=1, max=200, help="Number of edges.")]
RoundsOption = Annotated[int, typer.Option(min=1, max=100_000, help="Number of rounds.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the data's split.")]
PlainOption = Annotated[bool, typer.Option("--plain", help="Print lines instead of a live screen.")]
BrokerOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=mqtt://…", help="An existing MQTT broker of an edge's node; repeatable."),
]


def register(app: typer.Typer) -> None:
    app.command(
        help="Show what it does, on digits: federated learning, where an edge loses its link for a while, or "
        "incremental learning, where a model meets digits that it has never seen.",
        epilog=examples("heliograph demo --edges 5", "heliograph demo incremental"),
    )(demo)
    app.command(
        help="Start a cluster on this machine and keep it up until Ctrl-C.",
        epilog=examples(
            "heliograph up --edges 3 --state ./cluster --code . --user alice",
            "heliograph up --state ./cluster --bind 0.0.0.0 --tls-name cloud.example.org",
        ),
    )(up)


def demo(
    what: Annotated[Literal["federated", "incremental"], typer.Argument(help="What to show.")] = "federated",
    framework: Annotated[Literal["numpy", "torch"], typer.Option(help="Framework of the training script.")] = "numpy",
    edges: EdgesOption = 3,
    rounds: RoundsOption = 10,
    outage: Annotated[bool, typer.Option("--outage/--no-outage", help="Cut the link of edge-2 for a while.")] = True,
    seed: SeedOption = 1,
    edge_broker: BrokerOption = None,
    out: Annotated[Path, typer.Option(help="Directory for the model and the log.")] = Path("heliograph-demo"),
    plain: PlainOption = False,
) -> None:
    from heliograph.cli.printing.output import say
    from heliograph.core.errors import HeliographError
    from heliograph.core.private_files import private_files
    from heliograph.core.world import World
    from heliograph.local.demo import demo as local_demo
    from heliograph.local.run_scope import scratch

    _need_framework(framework)
    if what == "incremental":
        from heliograph.cli.local.incremental_demo import incremental_demo

        incremental_demo(edges, seed, out, plain)
        return
    brokers = _brokers(edge_broker, edges)
    with private_files(), scratch() as directory:
        out.mkdir(parents=True, exist_ok=True)
        options = local_demo.Options(directory, framework, edges, rounds, outage, seed, brokers)
        with screen(plain) as display:
            outcome = until_signalled(lambda: local_demo.run(options, display, World()))
        model = _keep(outcome.model, out / "digits.safetensors")
        _keep(directory / "log.txt", out / "log.txt")
    if outcome.accuracies:
        show_curve("test accuracy", outcome.accuracies)
    say(
        f"telemetry of the device on {outcome.edge}: {outcome.sent} sent, {outcome.received} received, "
        f"lost {outcome.lost}, twice {outcome.twice} (counted in the cloud's stream)"
    )
    say(f"updates of {outcome.edge}: {outcome.updates}")
    if model is not None:
        say(f"the model: {model}")
    say("next: heliograph run your_train.py --edges 3")
    if outcome.shortcomings:
        raise HeliographError(f"{'; '.join(outcome.shortcomings)}. See {out / 'log.txt'}")


def up(
    edges: EdgesOption = 3,
    seed: SeedOption = 1,
    edge_broker: BrokerOption = None,
    state: Annotated[Path | None, typer.Option(help="Directory that keeps the cluster's state.")] = None,
    code: Annotated[list[Path] | None, typer.Option(help="Root of scripts that tasks may name; repeatable.")] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Root of files that data sets may name; repeatable.")] = None,
    user: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A user who gets a login, beside yours; repeatable.")
    ] = None,
    participant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A program that trains by itself and gets a login for jobs; repeatable."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=60_000, help="First port: NATS, then MQTT, WebSocket; 10 further the edges'."),
    ] = None,
    websocket: Annotated[bool, typer.Option("--websocket", help="Listen for NATS and MQTT over WebSocket.")] = False,
    websocket_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="https://HOST", help="Origin whose web pages may connect by WebSocket; repeatable."),
    ] = None,
    door: Annotated[
        Literal["embedded", "mosquitto"],
        typer.Option(help="The MQTT door: the embedded broker's (MQTT 3.1.1), or an installed mosquitto (MQTT 5)."),
    ] = "embedded",
    node_memory_mb: Annotated[
        int | None,
        typer.Option(min=1, max=1 << 30, help="Memory that each edge has for workers that ask for some, in MB."),
    ] = None,
    node_gpus: Annotated[
        int | None, typer.Option(min=0, max=1024, help="GPUs that each edge has for workers that ask for some.")
    ] = None,
    site_policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What workers may reach. Default: their own files, and their broker."),
    ] = None,
    devices_map: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What further topics of the edges' devices stand for, as TOML. Default: "
                     "event/telemetry/EDGE/DEVICE alone."),
    ] = None,
    bind: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where the cloud's broker listens; beyond loopback by TLS alone.")
    ] = "127.0.0.1",
    tls_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Host name or address in the broker's certificate, the one for URLs first; "
                     "repeatable. Default: the address, and this machine's name."),
    ] = None,
    client_certificates: Annotated[
        bool, typer.Option("--client-certificates", help="Require a certificate of each client, beside its login.")
    ] = False,
    new_authority: Annotated[
        bool, typer.Option("--new-authority", help="Make another certificate authority, which clients trust beside "
                           "the present one.")
    ] = False,
) -> None:
    from heliograph.cli.local.up import Options, serve
    from heliograph.core.private_files import private_files
    from heliograph.core.world import World
    from heliograph.edge_agent.confinement.site_policy import CONFINED, read_site_policy
    from heliograph.local.cluster_tls import Listening
    from heliograph.local.run_scope import scratch

    options = Options(
        edges, seed, _brokers(edge_broker, edges), tuple(code or ()), tuple(data or ()), tuple(user or ()),
        tuple(participant or ()), websocket, _origins(websocket_origin, websocket), door == "mosquitto", port or 0,
        node_memory_mb, node_gpus, read_site_policy(site_policy) if site_policy is not None else CONFINED,
        Listening(address(bind), tuple(tls_name or ()), client_certificates, new_authority), devices_map,
    )  # fmt: skip
    with private_files(), scratch(state) as directory:
        until_signalled(lambda: serve(directory, options, World()))


def _need_framework(name: str) -> None:
    import importlib.util

    from heliograph.core.errors import HeliographError

    if importlib.util.find_spec(name) is None:
        extra = {"numpy": "demo"}.get(name, name)
        raise HeliographError(f"{name} is not installed; install it with pip install 'heliograph[{extra}]'")


def _brokers(given: list[str] | None, edges: int) -> dict[str, str]:
    from heliograph.core.errors import Refused

    found = {}
    names = [f"edge-{number + 1}" for number in range(edges)]
    for text in given or ():
        name, _, url = text.partition("=")
        if name not in names or not url.startswith("mqtt://"):
            raise Refused("invalid", field="--edge-broker", got=text,
                          expected=f"NAME=mqtt://HOST:PORT with NAME of {', '.join(names)[:200]}")  # fmt: skip
        found[name] = url
    return found


def address(text: str) -> str:
    """Return the address to listen at; ``localhost`` is loopback's."""
    import ipaddress

    from heliograph.cli.usage import misused

    try:
        return str(ipaddress.ip_address("127.0.0.1" if text == "localhost" else text))
    except ValueError:
        raise misused("--bind", expected="an address of this machine, or 0.0.0.0 for all", got=text) from None


def _origins(given: list[str] | None, websocket: bool) -> tuple[str, ...]:
    from urllib.parse import urlsplit

    from heliograph.cli.usage import misused

    for text in given or ():
        parts = urlsplit(text)
        if not websocket:
            raise misused("--websocket-origin", expected="--websocket with it", got=text)
        if parts.scheme not in ("http", "https") or not parts.hostname or text != f"{parts.scheme}://{parts.netloc}":
            raise misused("--websocket-origin", expected="http://HOST[:PORT] or https://HOST[:PORT]", got=text)
    return tuple(given or ())


def _keep(file: Path | None, target: Path) -> Path | None:
    import shutil

    if file is None or not file.exists():
        return None
    shutil.copyfile(file, target)
    target.chmod(0o600)  # also where an earlier release has left one
    return target


def screen(plain: bool) -> Lines | Screen:
    import sys

    from heliograph.cli.local.lines import Lines
    from heliograph.cli.local.screen import Screen
    from heliograph.core.world import World

    return Lines() if plain or not sys.stdout.isatty() else Screen(World().monotonic)


def show_curve(name: str, values: list[float]) -> None:
    from heliograph.cli.local.curves import plot
    from heliograph.cli.printing.output import say

    say(plot(name, values))


def until_signalled(main: Callable[[], Awaitable[T]]) -> T:
    """Run ``main`` to its end; SIGINT, SIGTERM and SIGHUP cancel it, so that it stops the processes it has started."""
    import asyncio
    import signal

    from heliograph.cli.running import ending

    async def guarded() -> T:
        async def run() -> T:
            return await main()

        task = asyncio.create_task(run())
        loop, end = asyncio.get_running_loop(), ending(task)
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, end)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it, which lets a command go on

            def hung_up() -> None:
                _write_nowhere()
                end()

            loop.add_signal_handler(signal.SIGHUP, hung_up)
        try:
            return await task
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    return asyncio.run(guarded())


def _write_nowhere() -> None:
    """Let the output end nowhere: the terminal is gone, and a line written to it would break the stop."""
    import os

    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
