"""Names in a worker's own directory, which its agent and the worker share."""

STAGED = "staged"
"""The weights that the worker has staged, until they are in the cloud."""
EDGE_STATE = "edge-state"
"""What the algorithm of the worker's job keeps on this edge, until the job has ended."""
