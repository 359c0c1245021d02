"""Data sets of telemetry: rows that the agent makes of its devices' messages, kept on the node for training workers."""
