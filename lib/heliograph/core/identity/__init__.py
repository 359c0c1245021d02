"""Identities on NATS: key pairs (nkeys), tokens (JWT v2), and the files that hold both."""
