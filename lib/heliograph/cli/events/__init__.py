"""Commands about what has happened: events of the streams, and logs."""
