"""Incremental learning: a model improves from what it was unsure of."""
