"""``track``: a job's rounds in event files, by a login that reads the streams and by one that reads documents alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heliograph.tracking.event_files import scalars_in
from tests.cli.conftest import SCRIPTS, CommandLine

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(autouse=True)
def _needs_tensorboardx(framework: Callable[[str], ModuleType]) -> None:
    framework("tensorboardX")


def written(directory: Path) -> list[tuple[int, Mapping[str, float]]]:
    """Return the records of the only run in a directory."""
    (run,) = directory.iterdir()
    return list(scalars_in(run))


async def test_an_ended_job_is_tracked_afterwards_and_once(
    cli: Any, cluster: Any, job: Any, tmp_path: Path
) -> None:
    assert (await cli("apply", "-f", "-", stdin=job("seen", rounds=3))).code == 0
    assert (await cli("watch", "jobs/seen")).code == 0
    ran = await cli("track", "jobs/seen", "--tensorboard", tmp_path / "tb")
    assert (ran.code, ran.err) == (0, "")
    place = f"tensorboard --logdir {tmp_path / 'tb'}"
    assert ran.out.splitlines() == [f"job/seen is tracked: {place}", "job/seen: Succeeded",
                                    f"3 rounds and 0 evaluations written: {place}"]  # fmt: skip
    records = written(tmp_path / "tb")
    rounds = json.loads((await cli("get", "jobs/seen", "-o", "json")).out)["status"]["rounds"]
    assert [step for step, _ in records] == [1, 2, 3]
    for (step, values), record in zip(records, rounds, strict=True):
        assert values["round/seconds"] == pytest.approx(record["durationSeconds"])
        assert values["train/loss"] == 0.5
        assert (values["round/counted"], values["round/samples"], values["edge/edge-1/counted"]) == (1, 4, step)
        assert (values["total/late"], values["total/refused"], values["total/duplicates"]) == (0, 0, 0)
    again = await cli("track", "seen", "--tensorboard", tmp_path / "tb")
    assert (again.code, "0 rounds and 0 evaluations written" in again.out) == (0, True)
    assert written(tmp_path / "tb") == records

    by_documents = CommandLine(tmp_path / "state", cluster.door)
    ran = await by_documents("track", "jobs/seen", "--tensorboard", tmp_path / "mqtt")
    assert ran.code == 0, ran.err
    found = written(tmp_path / "mqtt")
    assert [step for step, _ in found] == [1, 2, 3]
    assert found[-1] == records[-1]
    late = {"total/late", "total/refused", "total/duplicates"}  # a document has the newest ones alone
    assert found[:-1] == [(step, {name: value for name, value in values.items() if name not in late})
                          for step, values in records[:-1]]  # fmt: skip


async def test_what_cannot_be_tracked_is_refused(cli: Any, tmp_path: Path) -> None:
    ran = await cli("track", "jobs/none", "--tensorboard", tmp_path / "tb")
    assert ran.code == 4
    assert ran.error.startswith("job/none: ")
    assert not (tmp_path / "tb").exists() or not [*(tmp_path / "tb").iterdir()]
    ran = await cli("track", "jobs/none")
    assert (ran.code, "--tensorboard DIR or --mlflow URI" in ran.error) == (2, True)
    (tmp_path / "file").touch()
    ran = await cli("track", "jobs/none", "--tensorboard", tmp_path / "file")
    assert (ran.code, "cannot be written" in ran.error) == (1, True)


@pytest.mark.long
async def test_a_run_is_tracked_while_it_goes_on(tmp_path: Path, alone: CommandLine) -> None:
    (tmp_path / "train.py").write_text(SCRIPTS["train.py"])
    ran = await alone.apart("run", tmp_path / "train.py", "--edges", "2", "--rounds", "3", "--plain",
                            "--tensorboard", tmp_path / "tb", "--out", tmp_path / "model.safetensors",
                            "--folder", tmp_path / "run")  # fmt: skip
    assert ran.code == 0, ran.out + ran.err
    assert f"the rounds: tensorboard --logdir {tmp_path / 'tb'}" in ran.out
    records = written(tmp_path / "tb")
    assert [(step, values["round/counted"], values["train/loss"]) for step, values in records] == [
        (number, 2, 0.5) for number in (1, 2, 3)
    ]  # fmt: skip
    (tmp_path / "file").touch()
    refused = await alone.apart("run", tmp_path / "train.py", "--edges", "1", "--tensorboard", tmp_path / "file")
    assert (refused.code, "cannot be written" in refused.err, "starting" in refused.out) == (1, True, False)
