"""JSONPath templates as kubectl has them: ``{.metadata.name}``, ``{range .items[*]}…{end}``, filters, unions, slices.

A template is text with expressions in braces. The results of an expression stand one space apart; a field that is not
there gives none. The grammar is that of https://kubernetes.io/docs/reference/kubectl/jsonpath/.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from heliograph.cli.printing.jsonpath_steps import (
    MOST,
    Path,
    closing_bracket,
    end_of_quoted,
    parse_path,
    parse_steps,
    refused,
    unquoted,
)


def template(text: str) -> Callable[[Any], str]:
    """Return the function from a document to the text that a template makes of it. Raise Refused if it is none."""
    if len(text) > MOST:
        raise refused(f"at most {MOST} characters", f"{len(text)}")
    if "{" not in text:  # kubectl takes an expression without braces, too
        text = f"{{{text if text.startswith(('.', '[', '$', '@')) else '.' + text}}}"
    parts, rest = _parts(_pieces(text), inside=False)
    assert not rest
    return lambda document: "".join(_written(parts, document, document))


def text_of(value: Any) -> str:
    """Return a value as a template writes it: a text as it is, everything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class _Loop:
    path: Path
    body: tuple[Part, ...]


Part = str | Path | _Loop


def _pieces(text: str) -> list[tuple[str, bool]]:
    """Return the parts of a template in order: plain text, and what stands in braces."""
    found: list[tuple[str, bool]] = []
    at = 0
    while at < len(text):
        if text[at] != "{":
            end = text.find("{", at)
            end = len(text) if end < 0 else end
            found.append((text[at:end], False))
            at = end
            continue
        end = closing_bracket(text, at, "{", "}")
        found.append((text[at + 1 : end].strip(), True))
        at = end + 1
    return found


def _parts(pieces: list[tuple[str, bool]], inside: bool) -> tuple[tuple[Part, ...], list[tuple[str, bool]]]:
    """Return the parsed pieces up to the end of a range, or of the template, and the pieces behind it."""
    found: list[Part] = []
    while pieces:
        (piece, is_expression), *pieces = pieces
        if not is_expression:
            found.append(piece)
        elif piece == "end":
            if not inside:
                raise refused("{range …} before {end}", "{end} alone")
            return tuple(found), pieces
        elif piece.split(None, 1)[:1] == ["range"]:
            body, pieces = _parts(pieces, inside=True)
            found.append(_Loop(parse_path(piece.removeprefix("range").strip()), body))
        else:
            found += _expression(piece)
    if inside:
        raise refused("{end} behind {range …}", "a template without it")
    return tuple(found), []


def _expression(text: str) -> list[Part]:
    """Return the texts and paths of one pair of braces: ``'a'``, ``.b`` or both."""
    found: list[Part] = []
    while text:
        if text[0] in "'\"":
            end = end_of_quoted(text)
            found.append(unquoted(text[:end]))
            text = text[end:].strip()
        else:
            steps, text = parse_steps(text)
            found.append(steps)
            text = text.strip()
    return found


def _written(parts: tuple[Part, ...], value: Any, root: Any) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, _Loop):
            for each in part.path.of(value, root):
                yield from _written(part.body, each, root)
        else:
            yield " ".join(text_of(each) for each in part.of(value, root))
