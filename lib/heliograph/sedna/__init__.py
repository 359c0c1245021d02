"""Documents of KubeEdge's Sedna as Heliograph's own: pure functions, which ``heliograph convert`` prints.

``conversion`` reads documents and dispatches by kind; a file for each kind makes ours of its fields; ``fields`` tells
what nobody has taken.
"""
