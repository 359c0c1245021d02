"""Joint inference: a shallow model here answers what it is sure of, a deep one in the cloud the rest."""
