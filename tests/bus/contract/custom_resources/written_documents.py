"""The documents that the examples and the pages show."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heliograph.core.tree_file import parse

ROOT = Path(__file__).parents[4]
_BLOCK = re.compile(r"^```yaml\n(.*?)^```|((?:^ {4,}[^\n]*\n|^\n)+)", re.MULTILINE | re.DOTALL)


def written_documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each document of the examples, and each whole one in a code block of a page, with where it stands."""
    for path in sorted([*ROOT.glob("examples/**/*.yaml"), *ROOT.glob("examples/**/*.json")]):
        for tree, _ in parse(path.read_text(), path.name):
            yield str(path.relative_to(ROOT)), tree
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]):
        for fenced, indented in _BLOCK.findall(page.read_text()):
            text = textwrap.dedent(fenced or indented)
            if not re.search(r"^kind: ", text, re.MULTILINE):
                continue
            for part in re.split(r"^---.*$", text, flags=re.MULTILINE):
                tree, _ = next(parse(part, page.name))
                if isinstance(tree, dict) and {"kind", "metadata", "spec"} <= tree.keys():
                    yield str(page.relative_to(ROOT)), tree
