"""The node: the only process that holds both ends, the node's broker and the link to the cloud."""
