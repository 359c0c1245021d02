"""``convert``: documents on stdout, what is dropped on stderr, and files that ``apply`` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from heliograph.cli.printing.documents import read_documents

DOCUMENTS = Path(__file__).parents[1] / "lib" / "sedna" / "documents"


def test_apply_reads_what_it_prints(typed: Any, tmp_path: Path) -> None:
    for name in ("federated", "joint", "incremental"):
        words = ["--set", "trainScriptBootFile=train.py"] if name == "federated" else []
        ran = typed("convert", "-f", str(DOCUMENTS / f"{name}.yaml"), *words)
        assert ran.code == 0
        assert {line.partition(":")[0] for line in ran.err.splitlines()} <= {"dropped", "changed"}
        (tmp_path / "ours.yaml").write_text(ran.out)
        kinds = [each.tree["kind"] for each in read_documents(str(tmp_path / "ours.yaml"))]
        as_json = typed("convert", "-f", str(DOCUMENTS / f"{name}.yaml"), *words, "-o", "json")
        assert [each["kind"] for each in json.loads(as_json.out)] == kinds
        (tmp_path / "ours.json").write_text(as_json.out)
        assert [each.tree["kind"] for each in read_documents(str(tmp_path / "ours.json"))] == kinds


def test_another_kind_is_one_line_and_exit_code_1(typed: Any, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("apiVersion: sedna.io/v1alpha1\nkind: LifelongLearningJob\nmetadata: {name: a}\n")
    ran = typed("convert", "-f", str(tmp_path / "x.yaml"))
    assert (ran.code, ran.out) == (1, "")
    assert "x.yaml:2 field kind: expected Dataset or Model or" in ran.error and "LifelongLearningJob" in ran.error


def test_a_setting_that_there_is_not_is_exit_code_2(typed: Any) -> None:
    ran = typed("convert", "-f", str(DOCUMENTS / "joint.yaml"), "--set", "script=x.py")
    assert (ran.code, ran.out) == (2, "")
    assert "value for --set: expected NAME=VALUE with NAME of trainScriptBootFile" in ran.error
