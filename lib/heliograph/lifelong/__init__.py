"""Lifelong learning: one model of many tasks, which knows the samples that belong to none of them.

    from heliograph.lifelong import LifelongModel

    model = LifelongModel(make, train)
    for this in IncrementalLearning(model).rounds(x, y):
        model.learn(this)                       # was: train(net, this.x, this.y)

Its weights are one safetensors file, so that an IncrementalLearningJob trains it and a JointInferenceService serves it;
with the rule ``unknown`` its hard samples are those of no task.
"""

from heliograph.lifelong.attributes import Attributes
from heliograph.lifelong.model import Learned, LifelongModel
from heliograph.lifelong.task import LearnedTask

__all__ = ["Attributes", "Learned", "LearnedTask", "LifelongModel"]
