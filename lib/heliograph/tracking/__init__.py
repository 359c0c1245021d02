"""Tracking: the metrics of a job's rounds in a tool that people compare runs with (docs/tracking.md).

A client follows the job and writes; the coordinator knows nothing of it.
"""

from __future__ import annotations
