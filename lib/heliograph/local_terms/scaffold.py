"""SCAFFOLD: control variates correct the drift of edges whose data differ.

    step along ∇F(y) - c_k + c        c_k⁺ = mean of ∇F(y) over the round's steps        sent: y and c_k⁺ - c_k

For plain gradient descent the mean is the paper's option II, c_k - c + (x - y) / (Kη), which would be wrong for an
optimizer with momentum or a schedule of η.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020,
https://arxiv.org/abs/1910.06378
"""

from __future__ import annotations

from heliograph.local_terms.base import Array, Arrays, Correction, Kept, LocalTerm, Trained, kind_of

CONTROL = "control"


class ScaffoldTerm(LocalTerm):
    """The control variates: ``c`` comes down, ``c_k`` stays on the edge."""

    needs_gradients = True
    keeps_state = True

    def correction(self, received: Arrays, down: Arrays, state: Arrays) -> Correction:
        common, own = kind_of(CONTROL, down), kind_of(CONTROL, state)
        names = common.keys() | own.keys()
        return Correction(shift={name: _difference(common.get(name), own.get(name)) for name in sorted(names)})

    def keep(self, trained: Trained) -> Kept:
        before = kind_of(CONTROL, trained.state)
        after = trained.gradients
        change = {name: _difference(array, before.get(name)) for name, array in after.items()}
        return Kept({f"{CONTROL}:{name}": array for name, array in after.items()}, {CONTROL: change})


def _difference(one: Array | None, other: Array | None) -> Array:
    """Return the difference of two arrays, of which one may be missing: before the first round they are 0."""
    if one is None:
        assert other is not None
        return -other
    return one if other is None else one - other
