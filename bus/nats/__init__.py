"""The NATS transport: the cloud and the wide-area link."""

from heliograph.core.lazy import import_when_used

# the client library imports it where it is installed, for WebSocket alone: 11 MB and 0.1 s in each process
import_when_used("aiohttp")
