"""The model registry: versions, and where their weights lie."""
