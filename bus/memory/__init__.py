"""The in-memory transport: all clients of a hub in one process, for simulations and tests."""
