"""The resource that a command names: ``jobs/NAME``, ``job NAME``, ``jobs NAME``; and completions for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from heliograph.cli.asking.kinds import KINDS, complete_name, complete_target, complete_work
from heliograph.cli.usage import misused

KindArgument = Annotated[
    str, typer.Argument(metavar="KIND", help=f"KIND, or KIND/NAME. Kinds: {KINDS}.", autocompletion=complete_target)
]
NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="The name, unless given as KIND/NAME.", autocompletion=complete_name),
]
KindsArgument = Annotated[
    str,
    typer.Argument(
        metavar="KIND", help=f"KIND, several as KIND,KIND, or KIND/NAME. Kinds: {KINDS}.",
        autocompletion=complete_target,
    ),
]  # fmt: skip
NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME", help="The names, unless given as KIND/NAME; or further KIND/NAME.", autocompletion=complete_name
    ),
]
WorkArgument = Annotated[
    str,
    typer.Argument(
        metavar="KIND/NAME", help="jobs/NAME or services/NAME; or jobs NAME, as two words.",
        autocompletion=complete_work,
    ),
]  # fmt: skip
FurtherArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="KIND/NAME", help="Further ones; or names, after a kind.", autocompletion=complete_target),
]
SecondWord = Annotated[str | None, typer.Argument(metavar="NAME", hidden=True, autocompletion=complete_name)]


def targets(resource: str, names: Sequence[str], verb: str = "") -> dict[str, list[str]]:
    """Return names by kind, in the order given, of ``jobs``, ``jobs,services``, ``jobs A B`` and ``jobs/A services/B``;
    no name means all resources of a kind, and is refused with a verb."""
    given = (resource, *names)
    if any("/" in each for each in given):
        if without := [each for each in given if "/" not in each]:
            raise misused("KIND/NAME", expected="each as KIND/NAME, or a kind and names", got=" ".join(without))
        pairs = [target(each, None, verb) for each in given]
    else:
        kinds = [target(kind, None)[0] for kind in resource.split(",")]
        pairs = [target(kind, name, verb) for kind in kinds for name in names or (None,)]
    found: dict[str, list[str]] = {}
    for plural, name in dict.fromkeys(pairs):
        found.setdefault(plural, []).extend([name] if name is not None else ())
    return found


def target(resource: str, name: str | None, verb: str = "") -> tuple[str, Any]:
    """Return plural and name of ``jobs NAME``, ``job NAME`` or ``jobs/NAME``; a verb requires a name."""
    from heliograph.bus.contract.registry import declared
    from heliograph.core.names import LABEL_RULE, is_label

    word, slash, rest = resource.partition("/")
    every = declared().verbs
    plural = word if word in every else f"{word}s"
    kinds = [kind for kind, verbs in every.items() if not verb or verb in verbs]
    if plural not in kinds:
        expected = " or ".join(f"{kind}/NAME" if verb else kind for kind in kinds)
        raise misused("KIND/NAME" if verb else "KIND", expected=expected, got=resource)
    if slash and name is not None:
        raise misused("NAME", expected=f"{plural}/NAME or {plural} NAME", got=f"{resource} {name}")
    one = rest if slash else name
    if one is None and verb:
        raise misused("KIND/NAME", expected=f"{plural}/NAME", got=resource)
    if one is not None and not is_label(one):
        raise misused("NAME", expected=LABEL_RULE, got=one or "nothing")
    return plural, one


def label_in(text: str, kind: str = "", where: str = "NAME") -> str:
    """Return a name that was typed with its kind, ``jobs/NAME`` or ``job/NAME``, or without. Raise a usage error where
    it is none.

    Args:
        kind: the plural.
        where: the argument or option in the error.
    """
    from heliograph.core.names import LABEL_RULE, is_label

    name = text.removeprefix(f"{kind}/").removeprefix(f"{kind[:-1]}/") if kind else text
    if not is_label(name):
        raise misused(where, expected=LABEL_RULE, got=name or "nothing")
    return name
