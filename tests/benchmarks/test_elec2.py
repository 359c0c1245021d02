"""Elec2: the baseline that predicts no change, which no retraining at a drift beats."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality import elec2_drift
from heliograph.core.errors import HeliographError


@pytest.mark.quality
def test_no_retraining_beats_the_baseline() -> None:
    try:
        baseline = elec2_drift.no_change()
    except HeliographError as error:
        pytest.skip(str(error))
    assert round(baseline, 4) == elec2_drift.PUBLISHED
    once, again = elec2_drift.run(), elec2_drift.run("page-hinkley")
    assert once.rounds == 0 < again.rounds
    assert once.accuracy - 0.01 < again.accuracy < baseline


def test_a_detector_that_is_none_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setattr(elec2_drift, "elec2", lambda: (rng.random((1100, 6)), np.arange(1100) % 2))
    assert elec2_drift.main(["pagehinkley"]) == 1  # and the baseline is that of other rows
    shown = capsys.readouterr().out
    assert "no change: as the row before" in shown and "got pagehinkley" in shown
