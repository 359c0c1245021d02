"""Quotas: their settings, and the usage that counts for them."""

from __future__ import annotations

import pytest

from heliograph.bus.connect import connect
from heliograph.bus.contract.resources import FederatedTask, Metadata, Model
from heliograph.coordinator.quotas import Quotas, Usage
from heliograph.coordinator.resource_store import ResourceStore
from heliograph.core.errors import Conflict, Refused
from heliograph.core.world import World

TASK = {
    "kind": "FederatedTask",
    "metadata": {"name": "job", "createdBy": "one"},
    "spec": {
        "aggregationWorker": {"model": {"name": "m"}},
        "trainingWorkers": [{"name": f"w{number}"} for number in range(7)],
    },
}


def test_settings_replace_defaults() -> None:
    assert Quotas.parse([]) == Quotas()
    assert Quotas.parse(["resources=5", "stored-bytes-in-all=1000000"]) == Quotas(
        resources=5, stored_bytes_in_all=1_000_000
    )


BAD = ["", "resources", "resources=", "resources=-1", "resources=0", "resources=x", "resources=1e3", "resources=²",
       "resources=" + "9" * 5000, "apples=3"]  # fmt: skip


@pytest.mark.parametrize("setting", BAD)
def test_a_bad_setting_is_refused_with_what_is_expected(setting: str) -> None:
    with pytest.raises(Refused, match=r"resources|number") as refused:
        Quotas.parse([setting])
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("quotas", "whole", "own", "in_all", "quota"),
    [
        (Quotas(resources=2), Usage(1, 10), Usage(2, 20), Usage(2, 20), "resources"),
        (Quotas(resources_in_all=3), Usage(1, 10), Usage(0, 0), Usage(3, 30), "resources-in-all"),
        (Quotas(stored_bytes=25), Usage(1, 10), Usage(2, 20), Usage(2, 20), "stored-bytes"),
        (Quotas(stored_bytes_in_all=25), Usage(1, 10), Usage(), Usage(2, 20), "stored-bytes-in-all"),
        (Quotas(workers_of_job=3), Usage(1, 10, 4), Usage(), Usage(), "workers-of-job"),
        (Quotas(workers=5), Usage(1, 10, 4), Usage(1, 1, 2), Usage(1, 1, 2), "workers"),
        (Quotas(workers_in_all=5), Usage(1, 10, 4), Usage(), Usage(1, 1, 2), "workers-in-all"),
    ],
)
def test_a_refusal_names_its_quota_the_limit_what_is_there_and_what_to_do(
    quotas: Quotas, whole: Usage, own: Usage, in_all: Usage, quota: str
) -> None:
    with pytest.raises(Refused) as refused:
        quotas.check("someone", whole, whole, own, in_all)
    assert (refused.value.code, refused.value.field) == ("quota", quota)
    assert str(getattr(quotas, quota.replace("-", "_"))) in refused.value.expected
    assert refused.value.hint
    if quota != "workers-of-job":  # what is stored already may change
        quotas.check("someone", whole, Usage(), own, in_all)


async def test_usage_follows_writes_and_deletions_and_is_counted_again_at_the_start() -> None:
    world = World()
    bus = connect(f"memory://usage-{world.new_id()}", world=world)
    await bus.open()
    bucket = await bus.kv("resources")
    store = ResourceStore(bucket, world)
    model = await store.create(Model(metadata=Metadata(name="m", created_by="one")))
    await store.create(Model(metadata=Metadata(name="trained")))  # by the coordinator itself: counts for nobody
    small = store.usage("one")
    assert (small.resources, small.workers) == (1, 0)
    larger = model.model_copy(update={"spec": model.spec.model_copy(update={"description": 100 * "x"})})
    larger = await store.put(larger)
    stored = await bucket.get("models.m")
    assert stored is not None
    assert store.usage("one") == Usage(1, len(stored.value))
    assert len(stored.value) > small.bytes
    task = FederatedTask.model_validate(TASK)
    task = await store.create(task)
    assert store.usage("one").workers == 7
    again = ResourceStore(bucket, world)
    assert await again.load() == []
    assert again.usage("one") == store.usage("one")
    await store.put(task.model_copy(update={"status": task.status.model_copy(update={"phase": "Failed"})}))
    assert store.usage("one").workers == 0
    with pytest.raises(Conflict):
        await again.put(task.model_copy(update={"status": task.status.model_copy(update={"round": 3})}))
    assert again.usage("one") == store.usage("one")
    for each in (larger, task):
        await store.delete(each)
    assert store.usage("one") == Usage()
    await bus.close()
