"""What the node's devices say: from their broker into the journal."""
