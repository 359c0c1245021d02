"""Data sets on this node: resolve URLs and index files, without NumPy and without trust in their content.

A module for each form of file: ``csv_look`` and ``csv_file``, ``npy_header`` and ``npz_file``, ``parquet_file``,
``packed_file`` (gz and zip), ``folder``. Each reads in blocks and bounds its memory; no header decides how much is
allocated, nothing is unpickled or evaluated.
"""

from typing import TYPE_CHECKING

from heliograph.core.lazy import lazy_names

if TYPE_CHECKING:
    from heliograph.edge_agent.datasets.indexing import index
    from heliograph.edge_agent.datasets.urls import resolve

__all__ = ["index", "resolve"]

__getattr__ = lazy_names(__name__, {"indexing": "index", "urls": "resolve"})
