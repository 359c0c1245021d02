"""The demo: real processes, real images, a link that is cut and restored."""
