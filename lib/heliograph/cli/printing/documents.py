"""Resources of a YAML or JSON file, with the line of each field, so that an error can name the line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from heliograph.bus.contract.registry import declared, parse_resource
from heliograph.bus.contract.resources import Resource
from heliograph.core.errors import Refused
from heliograph.core.text import harmless
from heliograph.core.tree_file import Dumper, known_fields, line_of, node_at, parse, read_text, refusal_at_line


@dataclass(frozen=True)
class FileDocument:
    """One resource of a file."""

    file: str
    tree: dict[str, Any]
    node: yaml.Node
    resource: Resource

    def refusal(self, error: Refused) -> Refused:
        """Return the same refusal with file and line in place of the topic."""
        return refusal_at_line(error, self.file, self.node)


def read_documents(file: str) -> list[FileDocument]:
    """Read and validate every document of a file; ``-`` reads stdin.

    Raise HeliographError naming file, line and field if a document is invalid.
    """
    name = "stdin" if file == "-" else file
    found: dict[tuple[str, str], FileDocument] = {}
    for tree, node in parse(read_text(file), name):
        try:
            resource = parse_resource(tree)
            key = (resource.plural, resource.name)
            known = declared()
            if "create" not in known.verbs[resource.plural]:
                made = (kind for kind, model in known.kinds.items() if "create" in known.verbs[model.plural])
                kinds = " or ".join(made)
                raise Refused("read-only", field="kind", expected=kinds, got=tree["kind"])
            if key in found:
                first = line_of(node_at(found[key].node, "metadata.name"))
                raise Refused("twice", field="metadata.name", expected=f"another name than the one in line {first}",
                              got=resource.name)  # fmt: skip
        except Refused as error:
            if error.code == "unknown-field":
                fields = ", ".join(known_fields(declared().kinds[tree["kind"]], error.field))
                error.hint = f"The fields here are {fields}. {error.hint}".rstrip()
            raise refusal_at_line(error, name, node) from None
        found[key] = FileDocument(name, tree, node, resource)
    if not found:
        raise Refused("empty", topic=name, expected="a document with kind, metadata and spec", got="an empty file")
    return list(found.values())


def as_yaml(documents: list[dict[str, Any]]) -> str:
    """Return documents as YAML that ``read_documents`` reads back."""
    text: str = yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, allow_unicode=True)
    if harmless(text) == text:
        return text
    return str(yaml.dump_all(documents, Dumper=Dumper, sort_keys=False))  # everything beyond ASCII as escapes
