"""The offers of a node's workers."""

from __future__ import annotations

import subprocess
import sys

from heliograph.bus.contract.payloads import Offer
from heliograph.inference.hard_samples import choose, rules


def test_the_printed_offer_is_one_that_an_agent_reads() -> None:
    done = subprocess.run([sys.executable, "-m", "heliograph.workers.offers"], capture_output=True, check=True)
    offer = Offer.model_validate_json(done.stdout)
    assert "FedAvg" in offer.algorithms
    assert "numpy" in offer.frameworks
    assert offer.rules == rules()
    for name, schema in offer.rules.items():
        choose(name, {key: each["default"] for key, each in schema["properties"].items()})


def test_an_offer_without_rules_is_read() -> None:
    assert Offer.model_validate({"algorithms": {}, "frameworks": {}}).rules == {}
