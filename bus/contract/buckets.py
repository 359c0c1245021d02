"""The names of the cloud's buckets; ``permissions.upload_bucket`` has those that the edges upload to."""

from __future__ import annotations

MODELS = "models"
"""Object store: global models, and what else an aggregation leaves for the next round."""
ROUNDS = "rounds"
"""Key-value: the close records, see ``close_record``."""
RESOURCES = "resources"
"""Key-value: every resource."""
COORDINATOR = "coordinator"
"""Key-value: the coordinators' lease and epoch."""
INFERENCE = "inference"
"""Key-value: what the inference workers have counted."""
