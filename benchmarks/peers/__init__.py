"""Others' systems, run here to be compared with: the same model, the same number of participants, one after the other.

Each participant is a process of its own and returns the arrays it got plus one; all talk over loopback. A round lasts
from the close of one aggregation to the close of the next, after a warm-up, and the last model is checked.
"""
