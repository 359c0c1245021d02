"""Custom resource definitions: the kinds as Kubernetes declares them, generated from the models."""
