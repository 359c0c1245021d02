"""The MQTT transport: a node's broker and the public door."""
