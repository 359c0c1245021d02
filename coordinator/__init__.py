"""The cloud: takes requests, keeps resources, runs each feature's state machine, writes the edges' desired state."""
