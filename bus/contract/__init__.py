"""The contract: every topic, what it carries, and who may publish and subscribe."""
