"""What is done now and then to keep the project in order; no part of what is installed."""
