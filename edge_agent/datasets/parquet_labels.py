"""Count the labels in a column of a parquet file, by arro3 (the extra ``data``): 13 MB resident, without NumPy."""

from __future__ import annotations

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.label_counts import LabelCounts
from heliograph.edge_agent.datasets.unusable import Unusable

BATCH = 1 << 14
"""Rows in memory at once."""


def count_parquet(path: str, column: str, labels: LabelCounts) -> None:
    """Count the labels in a parquet column, where arro3 is installed (the extra ``data``).

    Raise Unusable where a page cannot be read.
    """
    try:
        from arro3.io import read_parquet
    except ImportError:
        return
    try:
        reader = read_parquet(path, batch_size=BATCH)
        for batch in reader:
            labels.add_all(map(str, batch.column(column).to_pylist()))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # arro3's PanicException is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise Unusable(f"is damaged, or of a kind that arro3 does not read ({shorten(str(error))}); "
                       "write it again") from None  # fmt: skip
