"""The bus: topics, messages, resources and the transports that carry them. Imports nothing else of Heliograph."""
