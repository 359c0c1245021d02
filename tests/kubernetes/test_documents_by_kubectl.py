"""Each document of ``examples/`` and ``docs/`` is applied with kubectl as it stands."""

from __future__ import annotations

import yaml

from heliograph.bus.contract.custom_resources.definitions import KINDS
from tests.bus.contract.custom_resources.written_documents import written_documents
from tests.kubernetes.kubectl import Kubectl


async def test_kubectl_applies_each_document_as_it_is_written(kubectl: Kubectl) -> None:
    applied = 0
    for where, document in written_documents():
        if document["kind"] not in KINDS:
            continue
        metadata = {**document["metadata"], "namespace": "default"}
        given = yaml.safe_dump({"apiVersion": "edgeai.io/v1alpha1", **document, "metadata": metadata})
        done = await kubectl.run("apply", "-f", "-", given=given)
        assert done.code == 0, f"{where}: {done.errors}"
        applied += 1
    assert applied > 10
