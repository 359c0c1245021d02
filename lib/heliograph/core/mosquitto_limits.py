"""The limits of mosquitto that decide what it drops of what devices publish, and what to write into its configuration.

As packaged, mosquitto queues 1,000 messages for a client (100 before 2.0), keeps none of QoS 0 for one that is away,
and forgets what it has when it is killed. See mosquitto.conf(5); each line is one of mosquitto 1.6 and later.
"""

from __future__ import annotations

from collections.abc import Mapping

LIMITS: Mapping[str, tuple[str, str]] = {
    "max_queued_messages": ("100000", "messages that wait for the agent; beyond, mosquitto drops new ones"),
    "max_queued_bytes": ("0", "bytes of them; 0 leaves the bound to max_queued_messages"),
    "max_inflight_messages": ("1000", "messages that the agent may have under way before it acknowledges one"),
    "queue_qos0_messages": ("true", "whether messages at QoS 0 wait while the agent is away"),
    "persistence": ("true", "whether messages that wait are on the disk when mosquitto ends"),
    "autosave_interval": ("60", "seconds until they are; those that came since are lost when mosquitto is killed"),
    "set_tcp_nodelay": ("true", "whether small messages leave at once"),
}
"""By name: the value that a node wants, and what the limit is about."""
LINES = tuple(f"{name} {value}" for name, (value, _) in LIMITS.items())
