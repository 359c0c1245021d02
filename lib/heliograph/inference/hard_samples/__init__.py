"""Hard-sample rules: which answers of the edge's model are not good enough, so that the cloud is asked.

A rule is a function of the scores of one sample; its parameters are its keyword arguments, and their JSON schema comes
from its signature. Every rule answers every input: what it says of one class, of zeros, of NaN or of nothing at all is
in its docstring. One file each; none loads NumPy.
"""

from heliograph.inference.hard_samples.registry import Dial, Rule, checked, choose, dial, rules
from heliograph.inference.hard_samples.scores import Scores

__all__ = ["Dial", "Rule", "Scores", "checked", "choose", "dial", "rules"]
