"""The NATS transport: the cloud and the wide-area link."""

import importlib

from heliograph.core.lazy import import_when_used

# the client library imports it where it is installed, for WebSocket alone: 11 MB and 0.1 s in each process
import_when_used("aiohttp")
# the client library's own JetStream, of which it reads the names of headers alone: 0.5 MB in each process
import_when_used("nats.js")
importlib.import_module("nats.js.api")
