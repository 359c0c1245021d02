"""The documents of real runs, with their statuses, are valid by the schemas of their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.custom_resources.definitions import KINDS, definitions
from heliograph.bus.traces.lines import readable
from heliograph.bus.traces.reading import TraceReader
from tests.bus.contract.custom_resources.schema_validator import findings

TRACES = sorted((Path(__file__).parents[3] / "traces").glob("*.mcap"))
SCHEMAS = {
    each["spec"]["names"]["kind"]: each["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for each in definitions().values()
}


def documents_in(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if tree.get("kind") in KINDS and "spec" in tree:
            yield tree
        for part in tree.values():
            yield from documents_in(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from documents_in(part)


def without_inline(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: without_inline(value) for key, value in tree.items() if key != "inline"}
    return [without_inline(each) for each in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("trace", TRACES, ids=lambda path: path.stem)
def test_each_document_of_a_golden_trace_is_valid(trace: Path) -> None:
    seen = set()
    with TraceReader(trace) as reader:
        for message in reader.messages():
            for document in documents_in(readable(message.body)):
                if "status" in document:
                    document["status"] = without_inline(document["status"])
                    seen.add(document["kind"])
                assert list(findings(SCHEMAS[document["kind"]], document)) == [], message.topic
    assert "Edge" in seen and len(seen) > 1
