"""The custom resource definitions: up to date, structural, and true of every document that is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heliograph.bus.contract.custom_resources.definitions import KINDS, definitions, files
from heliograph.bus.contract.custom_resources.rules import RULES
from heliograph.bus.contract.registry import BUILT_IN, parse_resource
from heliograph.bus.contract.resources import dump
from heliograph.core.errors import Refused
from tests.bus.contract.custom_resources.rule_cases import CASES, document, message
from tests.bus.contract.custom_resources.schema_validator import findings
from tests.bus.contract.custom_resources.structural_rules import broken_rules
from tests.bus.contract.custom_resources.written_documents import written_documents

ROOT = Path(__file__).parents[4]
FOLDER = ROOT / "deploy" / "crds"
DEFINITIONS = definitions()
WRITTEN = list(written_documents())
MOST_BYTES = 256 * 1024
"""``kubectl apply`` keeps what it applied in an annotation, and annotations have a bound."""


def schema_of(kind: str) -> dict[str, Any]:
    found = next(each for each in DEFINITIONS.values() if each["spec"]["names"]["kind"] == kind)
    schema: dict[str, Any] = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def parts_of(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts_of(part, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if word in schema:
            yield from parts_of(schema[word], f"{path}[]")


def test_the_files_are_up_to_date() -> None:
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == files(), "not up to date: make crds"


def test_people_write_and_read_the_kinds() -> None:
    written = {kind for kind, model in BUILT_IN.kinds.items() if "create" in BUILT_IN.verbs[model.plural]}
    assert set(KINDS) == written - {"User", "Invitation"} | {"Edge"}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_schema_is_structural(name: str) -> None:
    spec = DEFINITIONS[name]["spec"]
    schema = spec["versions"][0]["schema"]["openAPIV3Schema"]
    assert list(broken_rules(schema)) == []
    assert schema["type"] == "object" and schema["properties"]["metadata"].keys() <= {"type", "properties"}
    assert schema["properties"]["metadata"]["properties"].keys() <= {"name", "generateName"}
    assert len(json.dumps(DEFINITIONS[name])) < MOST_BYTES


@pytest.mark.parametrize("name", DEFINITIONS)
def test_names_and_columns(name: str) -> None:
    definition = DEFINITIONS[name]
    names = definition["spec"]["names"]
    assert definition["metadata"]["name"] == f"{names['plural']}.edgeai.io" == name.split("_")[1][:-5] + ".edgeai.io"
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", names["plural"])
    version = definition["spec"]["versions"][0]
    assert version["subresources"] == {"status": {}}
    paths = {path for path, _ in parts_of(version["schema"]["openAPIV3Schema"])}
    for column in version["additionalPrinterColumns"]:
        path = column["jsonPath"]
        known = path in paths or path.rpartition(".")[0] + "[]" in paths or path == ".metadata.creationTimestamp"
        assert known, column
        assert column["type"] in ("boolean", "date", "integer", "number", "string")


def test_short_names_are_taken_once_and_are_none_of_kubernetes() -> None:
    short = [word for each in DEFINITIONS.values() for word in each["spec"]["names"]["shortNames"]]
    assert len(set(short)) == len(short)
    assert not set(short) & {"cm", "cs", "ds", "deploy", "ep", "ev", "hpa", "ing", "no", "ns", "po", "pv", "pvc", "rc",
                             "rs", "sa", "sts", "svc"}  # fmt: skip


def test_a_status_has_no_inline_bytes_no_defaults_and_no_rules() -> None:
    for kind in KINDS:
        for path, part in parts_of(schema_of(kind)["properties"]["status"]):
            assert not path.endswith(".inline")
            assert not part.keys() & {"default", "x-kubernetes-validations"}
    assert ".weights.inline" in dict(parts_of(schema_of("Model")["properties"]["spec"]))


def test_each_rule_is_used_and_names_fields_that_are_there() -> None:
    used = set()
    for kind in KINDS:
        for path, part in parts_of(schema_of(kind)):
            for each in part.get("x-kubernetes-validations", ()):
                used.add(each["rule"])
                for field in re.findall(r"\bself\.(\w+)(?!\w*\()", each["rule"]):
                    assert field in part["properties"], (kind, path, each)
    assert used == {rule.rule for rules in RULES.values() for rule in rules}


@pytest.mark.parametrize(("where", "document"), WRITTEN, ids=lambda each: str(each)[:50])
def test_each_document_that_is_shown_is_valid(where: str, document: dict[str, Any]) -> None:
    assert list(findings(schema_of(document["kind"]), document)) == []


@pytest.mark.parametrize(("where", "document"), WRITTEN, ids=lambda each: str(each)[:50])
def test_what_get_prints_is_valid(where: str, document: dict[str, Any]) -> None:
    printed = dump(parse_resource({"apiVersion": "edgeai.io/v1alpha1", **document}))
    assert list(findings(schema_of(document["kind"]), printed)) == []


def test_what_a_schema_refuses_the_coordinator_refuses_too() -> None:
    """Each bound of the schemas of a job is the model's: a value beyond it is refused by both."""
    _, document = next(each for each in WRITTEN if each[1]["kind"] == "FederatedTask")
    schema = schema_of("FederatedTask")
    for field, value in {"rounds": 0, "roundDeadlineSeconds": 0, "quorum": "2", "earlyStopping": "never",
                         "priority": 1001, "trainingWorkers": [], "foo": 1}.items():  # fmt: skip
        tree = {**document, "spec": {**document["spec"], field: value}}
        assert list(findings(schema, tree)), field
        with pytest.raises(Refused):
            parse_resource(tree)


def test_each_rule_has_a_case() -> None:
    cases = {(model, number) for model, number, *_ in CASES}
    assert cases == {(model, number) for model, rules in RULES.items() for number in range(len(rules))}


@pytest.mark.parametrize(("model", "number", "kind", "spec", "change"), CASES, ids=lambda each: str(each)[:20])
def test_the_coordinator_has_each_rule(
    model: str, number: int, kind: str, spec: dict[str, Any], change: dict[str, Any]
) -> None:
    assert message(model, number).startswith("expected ")
    for found in (document(kind, spec), document(kind, spec, change)):
        assert list(findings(schema_of(kind), found)) == [], "no schema says it"
    parse_resource(document(kind, spec))
    with pytest.raises(Refused):
        parse_resource(document(kind, spec, change))
