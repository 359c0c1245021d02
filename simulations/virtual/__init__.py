"""The shipped components in one process and in virtual time, on a loop without a wall clock and over failing links."""
