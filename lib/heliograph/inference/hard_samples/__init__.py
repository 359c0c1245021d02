"""Hard-sample rules: a rule decides on the edge model's scores of a sample whether to ask the cloud.

A rule is a function of the scores of one sample. Its keyword arguments are its parameters, and its signature gives
their JSON schema. A rule returns a decision for every input; its docstring states the decision for one class, for
zeros, for NaN and for no scores. Each rule is one file and needs no NumPy.
"""

from heliograph.inference.hard_samples.rules import Dial, Rule, choose, dial, full_parameters, rules
from heliograph.inference.hard_samples.scores import Scores

__all__ = ["Dial", "Rule", "Scores", "choose", "dial", "full_parameters", "rules"]
