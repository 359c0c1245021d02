"""``rollback``, and the commands of ``models`` about versions, aliases, deployments, exports and signatures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from heliograph.cli.asking.requests import ServerOption, about, ask
from heliograph.cli.asking.targets import label_in
from heliograph.cli.catalog import models
from heliograph.cli.catalog.models import ModelArgument

if TYPE_CHECKING:
    from heliograph.client import AsyncClient

Output = Annotated[Literal["table", "json"], typer.Option("--output", "-o", help="Output format.")]
VersionOption = Annotated[
    str | None, typer.Option("--version", metavar="N|ALIAS", help="A version. Default: the deployed one.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Let the coordinator check it, and change nothing.")]


def register(main: typer.Typer) -> None:
    main.command(help=_HELP["rollback"], epilog=_EXAMPLES["rollback"])(rollback)
    for command in (versions, alias, deployment, evaluation, export, verify, key):
        name = command.__name__
        models.app.command(help=_HELP[name], epilog=_EXAMPLES[name])(command)


def _examples(*lines: str) -> str:
    return "\n".join(["\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])


_HELP = {
    "rollback": "Move an alias of a model back: what was deployed before is deployed again.",
    "versions": "List a model's versions, newest first, with its aliases.",
    "alias": "Move an alias to a version, bind edges to it, or remove it. 'champion' decides what is deployed.",
    "deployment": "Show what each edge runs of a model.",
    "evaluation": "Show what versions of a model score, and on which data.",
    "export": "Write a version as a signed folder or an OCI layout, or register it in MLflow.",
    "verify": "Check the files of an exported folder against its signature.",
    "key": "Print the public key that signs versions, for 'heliograph agent --model-keys'.",
}
_EXAMPLES = {
    "rollback": _examples("heliograph rollback models/digits", "heliograph rollback models/digits --to 3"),
    "versions": _examples("heliograph models versions digits"),
    "alias": _examples("heliograph models alias digits champion 4",
                       "heliograph models alias digits challenger 5 --edge edge-7"),
    "deployment": _examples("heliograph models deployment digits --state failing"),
    "evaluation": _examples("heliograph models evaluation digits --version champion"),
    "export": _examples("heliograph models export digits --version champion",
                        "heliograph models export digits --to oci --out digits.oci"),
    "verify": _examples("heliograph models verify digits-v4 --keys keys.pem"),
    "key": _examples("heliograph models key > keys.pem"),
}  # fmt: skip


def versions(name: ModelArgument, output: Output = "table", server: ServerOption = None) -> None:
    import time

    from heliograph.cli.cells import age, short_metrics, size

    name = label_in(name, "models")

    async def read(client: AsyncClient) -> dict[str, Any]:
        found = await client.models.versions(name)
        rest = found
        while (before := rest.get("before")) is not None:
            rest = await client.models.versions(name, before=before)
            found["versions"] += rest["versions"]
        return found

    found = _asked(name, read, server)
    if _shown_as_json(found, output):
        return
    named = _aliases_by_version(found)
    now = time.time()  # noqa: TID251 the age that people see
    rows: list[list[str | list[str]]] = [
        [
            str(each["version"]),
            named.get(each["version"], []),
            each["weights"]["digest"][:12],
            size(each["weights"]["size"]).replace(" ", ""),
            each.get("jobName", ""),
            str(each.get("round", "")),
            short_metrics(each.get("metrics")),
            _data(each.get("evaluationSet")),
            "yes" if each.get("signature") else "",
            age(each.get("time", ""), now),
        ]
        for each in found.get("versions", ())
    ]
    _table(
        "VERSION ALIASES DIGEST SIZE JOB ROUND METRICS MEASURED-ON SIGNED AGE", rows, f"model {name} has no version yet"
    )


def alias(
    name: ModelArgument,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The alias; made where there is none of that name.")],
    version: Annotated[int | None, typer.Argument(min=0, metavar="[N]", help="Number of the version.")] = None,
    edge: Annotated[
        list[str] | None,
        typer.Option(metavar="EDGE", help="An edge on which this alias decides what is deployed. Repeatable."),
    ] = None,
    no_edges: Annotated[bool, typer.Option("--no-edges", help="Free the edges that are bound to it.")] = False,
    was: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Refuse it unless the alias names this version now.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
    dry_run: DryRun = False,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output import say
    from heliograph.cli.usage import misused

    name = label_in(name, "models")
    if edge and no_edges:
        raise misused("--no-edges", expected="either --edge or --no-edges", got="both")
    bound = [each.removeprefix("edges/").removeprefix("edge/") for each in edge] if edge else [] if no_edges else None
    if version is None and bound is None and not remove:
        raise misused("N", expected="a version, --edge, --no-edges or --remove", got="none of them")

    async def move(client: AsyncClient) -> tuple[dict[str, Any], list[str]]:
        made = await client.models.alias(name, alias, version, was=was, edges=bound, remove=remove, dry_run=dry_run)
        known = {each["metadata"]["name"] for each in await client.edges.list()} if bound else set()
        return made, [each for each in bound or () if each not in known]

    made, unknown = _asked(name, move, server)
    status = made.get("status", {})
    number = status.get("aliases", {}).get(alias)
    if number is None:
        say(f"model/{name} {alias} removed{_trial(dry_run)}")
        return
    edges = status.get("bindings", {}).get(alias, ())
    say(f"model/{name} {alias} is version {number}{_on(edges)}{_trial(dry_run)}")
    for each in unknown:
        typer.echo(f"warning: no edge {each} is known yet", err=True)


def rollback(
    name: ModelArgument,
    to: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="The version. Default: the one before the last move.")
    ] = None,
    alias: Annotated[str, typer.Option(metavar="ALIAS", help="The alias to move back.")] = "champion",
    dry_run: DryRun = False,
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output import say

    name = label_in(name, "models")

    async def move(client: AsyncClient) -> tuple[dict[str, Any], dict[str, Any]]:
        before = await client.models.versions(name, limit=1)
        return before, await client.models.rollback(name, alias=alias, to=to, dry_run=dry_run)

    before, made = _asked(name, move, server)
    number = made["status"]["aliases"][alias]
    say(f"model/{name} {alias} is version {number}{_trial(dry_run)}")
    if alias == "champion" and "champion" not in before.get("aliases", {}) and not dry_run:
        say(f"It is the champion from now on: deploy later versions by 'heliograph models alias {name} champion N'.")


def deployment(
    name: ModelArgument,
    state: Annotated[
        Literal["deployed", "pending", "offline", "failing"] | None, typer.Option(help="Only edges in this state.")
    ] = None,
    output: Output = "table",
    server: ServerOption = None,
) -> None:
    name = label_in(name, "models")
    found = _asked(name, lambda client: client.models.deployment(name, state=state), server)
    if _shown_as_json(found, output):
        return
    rows: list[list[str | list[str]]] = [
        [
            each["edge"],
            each["service"],
            each["role"],
            each["state"],
            _version(each.get("version"), each.get("digest", "")),
            each.get("alias", ""),
            _version(each.get("runningVersion"), each.get("running", "")),
            each.get("reason", ""),
        ]
        for each in found.get("edges", ())
    ]
    _table("EDGE SERVICE ROLE STATE VERSION BY RUNNING REASON", rows, f"no service runs model {name}")
    counts = found.get("counts", {})
    if sum(counts.values()) > len(rows):
        typer.echo(", ".join(f"{number} {each}" for each, number in counts.items()), err=True)


def evaluation(
    name: ModelArgument, version: VersionOption = None, output: Output = "table", server: ServerOption = None
) -> None:
    from heliograph.cli.cells import short_metrics

    name = label_in(name, "models")
    found = _asked(name, lambda client: client.models.evaluation(name, _which(version)), server)
    if _shown_as_json(found, output):
        return
    rows: list[list[str | list[str]]] = [
        [
            str(each["version"]),
            each.get("aliases", []),
            short_metrics(each.get("metrics")),
            _data(each.get("evaluationSet")) or "training",
            (each.get("evaluationSet") or {}).get("version", "")[:12],
            each.get("jobName", ""),
        ]
        for each in found.get("versions", ())
    ]
    _table("VERSION ALIASES METRICS MEASURED-ON DATA-VERSION JOB", rows, f"model {name} has no version yet")


def export(
    name: ModelArgument,
    version: VersionOption = None,
    form: Annotated[Literal["folder", "oci", "mlflow"], typer.Option("--to", help="Form.")] = "folder",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder to make. Default: NAME-vN, or NAME-vN.oci.")
    ] = None,
    tracking_uri: Annotated[
        str, typer.Option(metavar="URI", envvar="MLFLOW_TRACKING_URI", help="MLflow's server or store.")
    ] = "",
    server: ServerOption = None,
) -> None:
    from heliograph.cli.printing.output import say

    name, wanted = label_in(name, "models"), _which(version)

    async def write(client: AsyncClient) -> str:
        if form == "mlflow":
            return await client.export_to_mlflow(name, wanted, tracking_uri=tracking_uri)
        target = out
        if target is None:
            found = await client.models.evaluation(name, wanted) if wanted is not None else None
            number = found["versions"][0]["version"] if found else (await client.models.versions(name)).get("deployed")
            target = Path(f"{name}-v{number}{'.oci' if form == 'oci' else ''}")
        return str(await client.export(name, target, wanted, form="oci" if form == "oci" else "folder"))

    say(_asked(name, write, server))


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that 'models export' has written.")],
    keys: Annotated[Path, typer.Option(metavar="FILE", help="Public keys in PEM that you trust.")],
) -> None:
    from heliograph.cli.printing.output import say
    from heliograph.core.signing import trusted_keys
    from heliograph.exports.folder import verify_folder

    name = verify_folder(folder, trusted_keys(keys))
    say(f"{folder}: model {name}, signed by a trusted key; every file is as it was signed")


def key(server: ServerOption = None) -> None:
    from heliograph.cli.printing.output import say

    say(str(ask(server, lambda client: client.models.key())["publicKey"]).strip())


def _asked(name: str, what: Any, server: str | None) -> Any:
    with about("models", name):
        return ask(server, what)


def _which(version: str | None) -> int | str | None:
    return int(version) if version is not None and version.isdigit() else version


def _aliases_by_version(found: Mapping[str, Any]) -> dict[int, list[str]]:
    """Return what a version is called: its aliases, with the number of edges that are bound to each."""
    named: dict[int, list[str]] = {}
    bindings = found.get("bindings", {})
    for each, number in found.get("aliases", {}).items():
        named.setdefault(number, []).append(each + (f" ({_count(bindings[each])})" if each in bindings else ""))
    if "champion" not in found.get("aliases", {}) and found.get("deployed") is not None:
        named.setdefault(found["deployed"], []).insert(0, "(deployed)")
    return named


def _count(edges: list[str]) -> str:
    return f"{len(edges)} edge{'s' if len(edges) > 1 else ''}"


def _on(edges: list[str]) -> str:
    return f" on {', '.join(edges[:8])}{f' and {len(edges) - 8} more' if len(edges) > 8 else ''}" if edges else ""


def _data(use: Mapping[str, Any] | None) -> str:
    return f"{use['name']}@{use['edge']}" if use else ""


def _version(number: int | None, digest: str) -> str:
    return str(number) if number is not None else digest[:12]


def _trial(dry_run: bool) -> str:
    return " (dry run)" if dry_run else ""


def _shown_as_json(found: Mapping[str, Any], output: str) -> bool:
    import json

    from heliograph.cli.printing.output import say

    if output == "json":
        say(json.dumps(found, indent=2))
    return output == "json"


def _table(columns: str, rows: list[list[str | list[str]]], nothing: str) -> None:
    from heliograph.cli.printing.output import show_table

    if rows:
        show_table(columns.split(), rows)
    else:
        typer.echo(nothing, err=True)
