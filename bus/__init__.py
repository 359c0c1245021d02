"""The bus: topics, messages, resources and the transports that carry them. It imports only ``heliograph.core``."""
