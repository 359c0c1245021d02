"""The MQTT transport: a node's broker and the public door."""

from heliograph.core.lazy import import_when_used

# the client library imports it for the machine's proxies, which this transport does not use: 1 MB in each process
import_when_used("urllib.request")
