"""Commands about jobs and services, and the workers that serve them."""
