"""``algorithms``: packages of training code, from the folder on a desk to the nodes that may run them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in
from heliograph.cli.usage import without_command

if TYPE_CHECKING:
    from heliograph.algorithm_files import Package
    from heliograph.client import AsyncClient

app = typer.Typer(
    help="Pack, upload, sign and allow packages of training code.", no_args_is_help=False, rich_markup_mode=None
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The algorithm.")]
SourceArgument = Annotated[
    Path, typer.Argument(metavar="PATH", help="A folder, a zip, or a package that 'pack' has written.")
]
EntryOption = Annotated[
    str, typer.Option(metavar="FILE.py", help="The script to run, below PATH. Default: the only Python file.")
]
FrameworkOption = Annotated[str, typer.Option(metavar="NAME", help="The framework that the script trains with.")]
ParametersOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="YAML or JSON: the JSON schema of each parameter, by its name.")
]
KeyOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Private key (PEM, P-256) to sign the package.")]


def register(main: typer.Typer) -> None:
    main.add_typer(app, name="algorithms")


app.callback(invoke_without_command=True)(without_command)


@app.command(help="Pack a folder or a zip, and print its digest. Example: heliograph algorithms pack ./digits")
def pack(
    path: SourceArgument,
    entry_point: EntryOption = "",
    framework: FrameworkOption = "",
    parameters: ParametersOption = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.zip", help="Write the package, too.")] = None,
) -> None:
    from heliograph.cli.printing.output import say

    package = _package(path, entry_point, framework, parameters)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(package.content)
        say(f"{out}: {_described(package)}")
    _say_left_out(package)
    say(package.digest)


@app.command(
    help="Upload training code; jobs name it as workerSpec.algorithm. "
    "Example: heliograph algorithms upload digits ./digits --framework numpy"
)
def upload(
    name: NameArgument,
    path: SourceArgument,
    entry_point: EntryOption = "",
    framework: FrameworkOption = "",
    parameters: ParametersOption = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it does.")] = "",
    key: KeyOption = None,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output import say
    from heliograph.core.signing import Signer

    name = label_in(name, "algorithms")
    signer = Signer.of(key) if key is not None else None
    package = _package(path, entry_point, framework, parameters)

    async def upload_it(client: AsyncClient) -> dict[str, Any]:
        made = await client.upload_algorithm(name, package, signer=signer, description=description)
        return await _settled(client, made)

    made = ask(server, upload_it)
    _say_left_out(package)
    say(f"algorithm/{name}: {_described(package)}")
    say(f"{package.digest}: {_message(made) or 'not proven yet'}")
    say(f"Nodes run it once it is allowed there: 'heliograph algorithms allow {name}' on a cluster of 'heliograph up'.")


@app.command(
    help="Sign an algorithm's package: nodes started with --package-keys run it. "
    "Example: heliograph algorithms sign digits --key operator.pem"
)
def sign(
    name: NameArgument,
    key: Annotated[Path, typer.Option(metavar="FILE", help="Private key (PEM, P-256).")],
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output import say
    from heliograph.core.signing import Signer

    name, signer = label_in(name, "algorithms"), Signer.of(key)
    with about("algorithms", name):
        made = ask(server, lambda client: client.sign_algorithm(name, signer))
    say(f"algorithm/{name}: package {made['spec']['package']['digest'][:12]} signed by key {signer.key_id[:12]}")


@app.command(
    help="Allow a package on this machine's nodes: add its digest to their file. "
    "Example: heliograph algorithms allow digits"
)
def allow(
    what: Annotated[str, typer.Argument(metavar="NAME|DIGEST", help="An algorithm of the cluster, or a digest.")],
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An agent's --allowed-packages. Default: that of 'heliograph up'."),
    ] = None,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output import say
    from heliograph.core.names import is_digest

    name, digest = "", what
    if not is_digest(what):
        name = label_in(what, "algorithms")
        with about("algorithms", name):
            digest = ask(server, lambda client: _digest_of(client, name))
    target = file or _allowed_packages()
    say(f"{target}: package {digest[:12]} {'added' if _add_line(target, digest, name) else 'is there already'}")


@app.command(
    help="Write an algorithm's package to a zip, to read it before allowing it. "
    "Example: heliograph algorithms download digits"
)
def download(
    name: NameArgument,
    out: Annotated[Path | None, typer.Option(metavar="FILE.zip", help="Default: NAME.zip.")] = None,
    server: ServerOption = None,
) -> None:
    from heliograph.algorithm_files import read
    from heliograph.cli.printing.output import say

    name = label_in(name, "algorithms")
    target = out or Path(f"{name}.zip")
    with about("algorithms", name):
        ask(server, lambda client: client.download_algorithm(name, target))
    package = read(target)
    say(f"{target}: {_described(package)}")
    say(package.digest)


def _package(path: Path, entry_point: str, framework: str, parameters: Path | None) -> Package:
    from heliograph.algorithm_files import pack as packed

    schemas = _schemas(parameters) if parameters is not None else {}
    return packed(path, {"entryPoint": entry_point, "framework": framework, "parameters": schemas})


def _schemas(file: Path) -> dict[str, Any]:
    """Return the schemas of parameters in a file. Raise Refused where it has something else."""
    from heliograph.core.errors import Refused
    from heliograph.core.tree_file import parse, read_text

    trees = [tree for tree, _ in parse(read_text(str(file), 1 << 20), str(file))]
    if len(trees) != 1 or not isinstance(trees[0], dict):
        raise Refused("invalid", topic=str(file), expected="one mapping, from a parameter's name to its JSON schema",
                      got=trees[0] if trees else "an empty file")  # fmt: skip
    return trees[0]


def _described(package: Package) -> str:
    from heliograph.cli.cells import size

    runs = f"runs {package.manifest.entry_point}"
    return f"{package.files} files, {size(len(package.content))}, {runs}"


def _say_left_out(package: Package) -> None:
    from heliograph.cli.cells import some_of
    from heliograph.cli.printing.output import printable

    if package.left_out:
        typer.echo(printable(f"left out: {', '.join(some_of(package.left_out))}"), err=True)


async def _settled(client: AsyncClient, made: dict[str, Any]) -> dict[str, Any]:
    """Return the document once its package is proven or refused, or as it is after a few seconds."""
    import asyncio

    try:
        async with asyncio.timeout(5):
            async for each in client.algorithms.watch(made["metadata"]["name"]):
                if _message(each):
                    return each
    except TimeoutError:
        pass
    return made


def _message(document: dict[str, Any]) -> str:
    """Return what the coordinator says about the present package."""
    conditions = document.get("status", {}).get("conditions", ())
    return next((str(each["message"]) for each in conditions if each["type"] == "Ready"), "")


async def _digest_of(client: AsyncClient, name: str) -> str:
    from heliograph.core.errors import HeliographError

    package = (await client.algorithms.get(name))["spec"].get("package")
    if not package:
        raise HeliographError(f"algorithm {name} is no package; nodes offer it themselves")
    return str(package["digest"])


def _allowed_packages() -> Path:
    """Return the file of the cluster that this user has started."""
    import json

    from heliograph.core.errors import HeliographError
    from heliograph.server import cluster_file

    try:
        return Path(json.loads(cluster_file().read_text())["allowed_packages"])
    except (OSError, ValueError, KeyError, TypeError):
        reason = "no cluster of 'heliograph up' on this machine; name the agents' file by --file"
        raise HeliographError(reason) from None


def _add_line(file: Path, digest: str, name: str) -> bool:
    """Add a digest to a file of digests. Return False where it is there."""
    lines = file.read_text().splitlines() if file.exists() else []
    if any(line.split("#")[0].strip() == digest for line in lines):
        return False
    from heliograph.core.private_files import write_private

    file.parent.mkdir(parents=True, exist_ok=True)
    write_private(file, "\n".join([*lines, f"{digest}  # {name}" if name else digest]) + "\n")
    return True
