"""Commands that bring a cluster of their own: demo, up, run, simulate; and the screens that show them."""
