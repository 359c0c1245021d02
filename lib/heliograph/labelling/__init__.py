"""Labels and their agreement: what coordinator, agent and clients decide in the same way. Without effects."""
