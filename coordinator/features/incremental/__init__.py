"""Incremental learning: the coordinator's part."""
