"""The demo of incremental learning: digits that a model has never seen, and images that turn."""
