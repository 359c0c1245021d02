"""``doctor``: what is wrong with a cluster and this machine, and how to mend it. One file a check."""
