"""Names of the cloud's buckets. ``permissions.upload_bucket`` names the buckets that edges upload to."""

from __future__ import annotations

MODELS = "models"
"""Object store: global models, algorithm state and edges' personal models."""
PACKAGES = "packages"
"""Object store: packages of training code."""
DATASETS = "datasets"
"""Object store: uploaded samples of data sets."""
SHARDS = "shards"
"""Object store: labelled samples that incremental learning trains on and measures with."""
UPLOADS_MAX = 16 << 30
"""Largest size in bytes of the bucket that one edge uploads to: one edge cannot fill the cloud's disk."""
OTHERS_MAX = 1 << 40
"""Largest size in bytes of every other object store."""
KEYS_MAX = 1_000_000
"""Keys of a key-value bucket, at most: a job of a million rounds has as many close records."""
VALUE_MAX = 8 * 1024 * 1024 + 4096
"""Bytes of a value with its headers, at most."""
ROUNDS = "rounds"
"""Key-value: close records of rounds, see ``close_record``."""
RESOURCES = "resources"
"""Key-value: the resources."""
COORDINATOR = "coordinator"
"""Key-value: the coordinator's lease and epoch."""
INFERENCE = "inference"
"""Key-value: counts reported by inference workers."""
LABELS = "labels"
"""Key-value: the tasks of label queues, with their leases and labels."""
SAMPLES = "label-samples"
"""Key-value: the samples of label queues' tasks."""
LEARNING = "learning"
"""Key-value: the samples that each shard of an incremental learning job has, ``<job uid>.<number>``."""
