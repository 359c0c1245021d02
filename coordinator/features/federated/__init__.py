"""Federated learning: train one model over many edges whose data stays where it is."""
