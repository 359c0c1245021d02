"""How a command reaches the cluster and names what it is about."""
