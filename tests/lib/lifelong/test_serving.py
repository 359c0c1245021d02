"""A lifelong model in joint inference: what it does not know goes to the deep model."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from heliograph import IncrementalLearning, JointInference
from heliograph.lifelong import LifelongModel
from tests.lib.lifelong.digits_of_tasks import Trainable, fit, model_of, negative, task, upright

A, B = task(range(3), upright, 400), task(range(3), negative, 400)
NAMES = ["zero", "one", "two"]


def test_the_deep_model_answers_what_no_task_knows() -> None:
    model, deep = model_of(A, classes=3), model_of(A, B, classes=3)
    with JointInference("digits", edge=model, cloud=deep, classes=NAMES, rule="unknown", deadline=30) as inference:
        known = [inference.infer(x) for x in A.test.x[:20]]
        strange = [asyncio.run(inference.ainfer(x)) for x in B.test.x[:20]]
    assert sum(each.by == "edge" for each in known) >= 15
    assert all(each.by == "cloud" and not each.degraded for each in strange)
    assert sum(each.result == NAMES[label] for each, label in zip(strange, B.test.y, strict=False)) >= 17


def test_without_a_task_all_samples_are_hard_and_the_edge_still_answers() -> None:
    with JointInference("digits", edge=model_of(classes=3), cloud=lambda x: None, classes=NAMES, rule="unknown",
                        deadline=30) as inference:  # fmt: skip
        answer = inference.infer(A.test.x[0])
    assert answer.by == "edge" and answer.degraded and answer.result in NAMES


def test_a_row_of_columns_brings_its_attributes_along() -> None:
    def row(x: Any, site: str) -> dict[str, Any]:
        return {"site": site, **{f"pixel{number}": float(value) for number, value in enumerate(x)}}

    model = LifelongModel(Trainable, fit, classes=3, enough=50, attributes=lambda row: {"site": row["site"]},
                          inputs=lambda row: np.array([row[f"pixel{number}"] for number in range(64)]))  # fmt: skip
    rows = [row(x, site) for site in ("roof", "yard") for x in A.train.x]
    il = IncrementalLearning(model)
    for this in il.rounds(rows, [*A.train.y, *(A.train.y + 1) % 3]):  # in the yard each digit has another name
        assert model.learn(this).opened == (0, 1)
    with JointInference("digits", edge=model, cloud=lambda x: None, classes=NAMES, rule="unknown",
                        deadline=30) as inference:  # fmt: skip
        said = {site: [inference.infer(row(x, site)) for x in A.test.x[:20]] for site in ("roof", "yard", "street")}
    labels = A.test.y[:20]
    assert sum(each.result == NAMES[label] for each, label in zip(said["roof"], labels, strict=True)) >= 18
    assert sum(each.result == NAMES[(label + 1) % 3] for each, label in zip(said["yard"], labels, strict=True)) >= 18
    assert all(each.degraded for each in said["street"])  # of no task
