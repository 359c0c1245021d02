"""Joint inference: a shallow model on the edge, a deep one in the cloud."""
