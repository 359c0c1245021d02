"""A project of several files: this script imports the modules beside it, in a job as on its own.

    python examples/project/train.py         # outside a job: ten passes over scikit-learn's digits
    heliograph run examples/project/train.py --data digits.npz --test 0.2

In a document it is ``trainScriptBootFile: project/train.py``, below the ``--code`` directory that each agent was
started with: the whole folder has to be there.
"""

from __future__ import annotations

from digits import load
from network import Network, accuracy, train_epoch

from heliograph import FederatedLearning, dataset, parameters  # Heliograph, line 1 of 3

train, test = load(dataset())  # Heliograph, line 2 of 3; was: load(None)
network = Network(hidden=32)
rate = float(parameters().get("learning_rate", 0.3))  # the job's, or 0.3 outside a job

learning = FederatedLearning(network.weights, num_samples=len(train[0]), evaluate=lambda: accuracy(network, *test))
for _ in learning.rounds(local=10):  # line 3 of 3
    for _pass in range(20):
        train_epoch(network, *train, rate)
    print(f"accuracy {accuracy(network, *test):.3f}")
