"""Which closed rounds are believed: those that the job's aggregation worker has signed, where its node lets it sign.

The worker's node hands it the key of its job, and reports the public one. A round that comes before that report waits.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

from heliograph.bus.contract import close_record
from heliograph.bus.contract.event_signature import holds, signer_of
from heliograph.bus.contract.payloads import AggregateTask, Aggregation
from heliograph.bus.contract.resources import FederatedTask
from heliograph.bus.port import Received
from heliograph.coordinator.edges.view import View
from heliograph.core.errors import Refused

MOST_HELD = 4
"""Closed rounds of one job that wait for the report of its worker's key, at most."""
WHO = "the job's aggregation worker"


def signing_keys(task: FederatedTask, view: View) -> frozenset[bytes] | None:
    """Return the public keys of a job's aggregation worker, none where it has not been reported yet; None where its
    node lets no worker sign, so that unsigned rounds are believed."""
    edge = view.edges.get(task.spec.aggregation_worker.node_name)
    if edge is None or edge.report is None or not edge.report.signs_rounds:
        return None
    reported = edge.workers(task.metadata.uid, AggregateTask)
    return frozenset(base64.urlsafe_b64decode(each.key + "=") for each in reported if each.key)


def is_believed(record: bytes, keys: frozenset[bytes] | None) -> bool:
    """Return whether a stored close record is believed."""
    return keys is None or close_record.signer_of(record) in keys


class HeldRounds:
    """Signed rounds that wait until their worker's key is reported."""

    def __init__(self) -> None:
        self._of: dict[str, list[Received[Aggregation]]] = {}

    def believes(self, received: Received[Aggregation], keys: frozenset[bytes] | None) -> bool:
        """Return whether a closed round is believed; hold it where that is not known yet. Raise Refused for one that
        another has signed, or nobody."""
        if keys is None:
            return True
        if keys:
            received.check_signature(keys, WHO)
            return True
        public = signer_of(received.event)
        if public is None or not holds(received.message.body, public):
            raise Refused("bad-signature", topic=received.message.topic, field="signature",
                          expected=f"a signature of {WHO}", got="none")  # fmt: skip
        held = self._of.setdefault(received.payload.job, [])
        held.append(received)
        del held[:-MOST_HELD]
        return False

    def take(self) -> Iterator[Received[Aggregation]]:
        """Return what is held, to be looked at again; nothing is held then."""
        held, self._of = self._of, {}
        for each in held.values():
            yield from each
