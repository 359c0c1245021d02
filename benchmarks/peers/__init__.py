"""Other projects' systems, run here for comparison with the same model and the same number of participants.

Each participant is a process of its own and adds one to the arrays it receives; all talk over loopback. A round lasts
from the close of one aggregation to the close of the next, after a warm-up, and the last model is checked.
"""
