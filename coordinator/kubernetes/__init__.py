"""Custom resources of Kubernetes and its API server. Only a coordinator with ``--kubernetes`` imports what is here."""
