"""What whoever asks may do."""
