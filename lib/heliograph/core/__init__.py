"""What every part rests on; it knows nothing of messages."""
