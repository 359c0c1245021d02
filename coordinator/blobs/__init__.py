"""Blobs between the cloud's buckets and the edges: what an edge may fetch, and what it hands over."""
