"""Names of the cloud's buckets. ``permissions.upload_bucket`` names the buckets that edges upload to."""

from __future__ import annotations

MODELS = "models"
"""Object store: global models, algorithm state and edges' personal models."""
ROUNDS = "rounds"
"""Key-value: close records of rounds, see ``close_record``."""
RESOURCES = "resources"
"""Key-value: the resources."""
COORDINATOR = "coordinator"
"""Key-value: the coordinator's lease and epoch."""
INFERENCE = "inference"
"""Key-value: counts reported by inference workers."""
