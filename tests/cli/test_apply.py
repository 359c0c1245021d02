"""``apply``: created, updated, unchanged; if one document is refused, none is applied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL = "kind: Model\nmetadata: {name: %s}\nspec: {description: %s}\n"
WAITING = """\
kind: FederatedTask
metadata: {name: waiting}
spec:
  aggregationWorker:
    model: {name: nowhere}
  trainingWorkers:
    - {name: w, nodeName: edge-9}
"""


async def _names(cli: Any, plural: str) -> list[str]:
    ran = await cli("get", plural, "-o", "json")
    return [each["metadata"]["name"] for each in json.loads(ran.out)]


async def test_created_unchanged_updated(cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(MODEL % ("one", "first") + "---\n" + MODEL % ("two", "first"))
    ran = await cli("apply", "-f", file)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == ["model/one created", "model/two created"]
    assert (await cli("apply", "-f", file)).out.splitlines() == ["model/one unchanged", "model/two unchanged"]
    file.write_text(MODEL % ("one", "first") + "---\n" + MODEL % ("two", "second"))
    assert (await cli("apply", "-f", file)).out.splitlines() == ["model/one unchanged", "model/two updated"]
    shown = json.loads((await cli("get", "models/two", "-o", "json")).out)
    assert shown["spec"]["description"] == "second"
    file.write_text("kind: Model\nmetadata: {name: one, labels: {of: tests}}\nspec: {description: first}\n")
    assert (await cli("apply", "-f", file)).out == "model/one updated\n"
    shown = json.loads((await cli("get", "models/one", "-o", "json")).out)
    assert shown["metadata"]["labels"] == {"of": "tests"}


async def test_a_pending_job_names_the_missing_resources(cli: Any) -> None:
    ran = await cli("apply", "-f", "-", stdin=WAITING)
    assert ran.code == 0
    assert ran.out.startswith("job/waiting created (Pending): ")
    assert "model nowhere does not exist" in ran.out
    assert "node edge-9 of training worker w is unknown" in ran.out
    assert (await cli("delete", "jobs/waiting")).out == "job/waiting deleted\n"


async def test_several_are_changed_in_turn_until_one_is_refused(cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "three.yaml"
    file.write_text("---\n".join(MODEL % (name, "a") for name in ("red", "green", "blue")))
    await cli("apply", "-f", file)
    assert (await cli("delete", "models", "red", "--dry-run")).out == "model/red deleted (dry run)\n"
    ran = await cli("delete", "models/red", "models/grey", "models/blue")
    assert (ran.code, ran.out) == (4, "model/red deleted\n")
    assert ran.err.startswith("error: model/grey: expected one of ")
    assert (await cli("delete", "models", "green", "blue")).out == "model/green deleted\nmodel/blue deleted\n"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("kind: Model\nmetadata: {name: Bad_Name}\n", "stdin:7 field metadata.name: expected a DNS label"),
        (WAITING.replace("nowhere}", "nowhere, nam: x}"), "stdin:10 field spec.aggregationWorker.model.nam: expected"),
        (
            WAITING.replace("nowhere}", "nowhere}\n    workerSpec: {aggregationAlgorithm: FedAvgg}"),
            "stdin:11 field spec.aggregationWorker.workerSpec.aggregationAlgorithm: expected one of Bulyan, ",
        ),
        (
            WAITING.replace("nowhere}", "nowhere}\n    workerSpec:\n      parameters:\n        - {key: lr}"),
            "stdin:13 field spec.aggregationWorker.workerSpec.parameters[0].key: expected one of batch_size",
        ),
    ],
    ids=["name", "field", "algorithm", "parameter"],
)
async def test_if_one_document_is_refused_none_is_applied(cli: Any, wrong: str, message: str) -> None:
    before = await _names(cli, "models")
    ran = await cli("apply", "-f", "-", stdin=f"{MODEL % ('beside', 'x')}---\n# the wrong one\n{wrong}")
    assert (ran.code, ran.out) == (1, "")
    assert ran.error.startswith(message)
    assert await _names(cli, "models") == before
    assert "waiting" not in await _names(cli, "jobs")


async def test_a_refused_change_of_a_job_changes_nothing_else(cli: Any, job: Any, cluster: Any) -> None:
    applied = await cli("apply", "-f", "-", stdin=job("running", "endless.py"))
    assert applied.out.splitlines() == ["model/of-running created", "job/running created (Running)"]
    documents = json.loads(job("running", "train.py"))
    documents[0]["spec"] = {"description": "changed"}
    ran = await cli("apply", "-f", "-", stdin=json.dumps(documents))
    assert (ran.code, ran.out) == (1, "")
    assert "field spec.trainingWorkers: expected no change while it runs (only best, priority, quorum" in ran.error
    assert '"changed"' not in (await cli("get", "models/of-running", "-o", "json")).out
    more = await cli("apply", "-f", "-", stdin=job("running", "endless.py", rounds=5))  # rounds may change
    assert more.out.splitlines() == ["model/of-running unchanged", "job/running updated (Running)"]
    assert (await cli("stop", "jobs/running")).out == "job/running stopped\n"


async def test_a_dry_run_prints_the_outcome_and_changes_nothing(cli: Any) -> None:
    await cli("apply", "-f", "-", stdin=MODEL % ("tried", "first"))
    text = MODEL % ("tried", "second") + "---\n" + MODEL % ("not-there", "x")
    ran = await cli("apply", "-f", "-", "--dry-run", stdin=text)
    assert ran.out.splitlines() == ["model/tried updated (dry run)", "model/not-there created (dry run)"]
    shown = json.loads((await cli("get", "models/tried", "-o", "json")).out)
    assert shown["spec"]["description"] == "first"
    assert "not-there" not in await _names(cli, "models")


@pytest.mark.parametrize("form", ["json", "yaml"])
async def test_the_output_of_get_can_be_applied(cli: Any, form: str) -> None:
    await cli("apply", "-f", "-", stdin=MODEL % ("again", "'1e-3'"))  # text like a number
    shown = (await cli("get", "models", "-o", form)).out
    ran = await cli("apply", "-f", "-", stdin=shown)
    assert (ran.code, ran.err) == (0, "")
    assert "model/again unchanged" in ran.out.splitlines()
    assert {line.split()[1] for line in ran.out.splitlines()} == {"unchanged"}


async def test_a_bad_file_is_reported_before_an_unreachable_cluster(alone: Any, tmp_path: Path) -> None:
    ran = await alone("apply", "-f", tmp_path / "none.yaml", "--server", "nats://127.0.0.1:1")
    assert (ran.code, ran.out) == (1, "")
    assert ran.error == f"cannot read {tmp_path}/none.yaml: No such file or directory"
