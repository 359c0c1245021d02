"""The NATS transport: the cloud and the wide-area link."""
