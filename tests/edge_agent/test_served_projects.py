"""A node whose site policy lists projects runs the work of no other, whatever the cloud says."""

from __future__ import annotations

from typing import Any

import pytest

from heliograph.bus.contract.payloads import Desired, EdgeLoop, Generation, TrainTask
from heliograph.bus.contract.resources import IncrementalLearningJobSpec
from heliograph.edge_agent.served_projects import ServedProjects


def task(uid: str) -> TrainTask:
    return TrainTask(worker=f"w-{uid}", job="j", job_uid=uid, round=1)


def desired(**more: Any) -> Desired:
    tasks = [task("of-north"), task("of-south"), task("of-default")]
    return Desired(edge="edge-1", generation=Generation(epoch=1, n=1), tasks=tasks,
                   projects={"of-north": "north", "of-south": "south"}, **more)  # fmt: skip


@pytest.mark.parametrize(
    ("served", "runs"),
    [((), ["of-north", "of-south", "of-default"]), (("north",), ["of-north"]),
     (("default", "south"), ["of-south", "of-default"])],
)
def test_work_of_other_projects_is_barred(served: tuple[str, ...], runs: list[str]) -> None:
    projects = ServedProjects(served, pytest.fail)
    found = projects.applied(desired())
    assert [each.job_uid for each in found.tasks if not projects.objection(each)] == runs
    for each in found.tasks:
        if each.job_uid not in runs:
            assert "the site policy lists " + ", ".join(sorted(served)) in projects.objection(each)


def test_a_loop_of_another_project_does_not_run_and_is_told_once() -> None:
    told: list[str] = []
    projects = ServedProjects(["north"], told.append)
    spec = IncrementalLearningJobSpec.model_construct()
    loops = {name: EdgeLoop.model_construct(uid=uid, queue="q", spec=spec) for name, uid in
             (("learns", "of-north"), ("other", "of-south"))}  # fmt: skip
    given = desired().model_copy(update={"loops": loops})
    for _ in range(3):
        assert [*projects.applied(given).loops] == ["learns"]
    assert told == ["incremental-jobs/other does not run here: project south may not run here; "
                    "the site policy lists north"]  # fmt: skip


def test_a_document_names_projects_beside_the_default_one() -> None:
    assert "projects" not in Desired(edge="edge-1", generation=Generation(epoch=1, n=1)).model_dump(mode="json")
    read = Desired.model_validate(desired().model_dump(mode="json"))
    assert read.projects == {"of-north": "north", "of-south": "south"}
