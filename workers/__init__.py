"""Processes launched on demand by an agent: train, evaluate, aggregate."""
