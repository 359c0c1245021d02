"""The data of ``heliograph run``: split for the edges, and refused before a cluster starts where an agent would."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from heliograph.core.errors import HeliographError, Refused
from heliograph.edge_agent.datasets import index
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.edge_agent.datasets.reading import Advance
from heliograph.local.display import Display
from heliograph.local.split import Split
from heliograph.local.split_file import Parts, split_file


def split_for_run(
    data: Path | None, directory: Path, edges: list[str], split: Split, *, seed: int, test: Path | float | None = None,
    label: str = "", header: Header | None = None, measures: bool = True, display: Display,
) -> Parts:  # fmt: skip
    """Return the parts of ``data`` in ``directory``; no parts without data. Say what was found in it by looking.

    Args:
        test: file of test samples, or the share of ``data`` that is kept for the test; without either a test part that
            lies in the data is taken.
        measures: whether the script measures models; if not, a test part that lies in the data is left alone.

    Raise HeliographError where the data do not fit, with the agent's own sentence where it would refuse them.
    """
    if data is None:
        given = {"--test": test is not None, "--header": header is not None, "--label": bool(label),
                 "--split": split != Split()}  # fmt: skip
        for option in (option for option, is_given in given.items() if is_given):
            raise Refused("invalid", field=option, expected="--data with it", got="no --data")
        return Parts()
    if isinstance(test, Path):
        _check_test(test, header, display)
    parts = split_file(
        data, directory, edges, split, seed=seed, test=test if isinstance(test, float) else 0.0, label=label,
        header=header, own_test=test is None and measures, doing=display.doing,
    )  # fmt: skip
    for sentence in parts.found:
        display.note(sentence)
    return replace(parts, test=test.resolve()) if isinstance(test, Path) else parts


def _check_test(test: Path, header: Header | None, display: Display) -> None:
    if not test.exists():
        raise HeliographError(f"{test}: there is no such file; --test takes a file of samples or a share")

    def progress(advance: Advance) -> None:
        display.doing(f"reading {test.name}: {advance.read >> 20} MB")

    found = index("test", test, header=header, progress=progress)
    if found.error:
        raise HeliographError(found.error)
