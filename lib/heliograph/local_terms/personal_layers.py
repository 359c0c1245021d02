"""FedPer, FedBN and FedRep: some layers are each edge's own, and never leave it.

- FedPer: the layers that the job names, such as the last ones. Arivazhagan et al., "Federated Learning with
  Personalization Layers", 2019, https://arxiv.org/abs/1912.00818
- FedBN: the layers of batch normalisation. Li et al., "FedBN: Federated Learning on Non-IID Features via Local Batch
  Normalization", ICLR 2021, https://arxiv.org/abs/2102.07623
- FedRep: as FedPer; each round trains the edge's own layers first, and the common ones after that. Collins et al.,
  "Exploiting Shared Representations for Personalized Federated Learning", ICML 2021, https://arxiv.org/abs/2102.07078
"""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase

from heliograph.core.errors import Refused
from heliograph.local_terms.base import Arrays, Correction, Kept, LocalTerm, Trained, kind_of

PERSONAL = "personal"
_SHOWN = 5
_LAYER = re.compile(r"[./](?=[^./]*$)")
"""What stands between a layer's name and its weight's."""


class PersonalLayers(LocalTerm):
    """Layers that stay on the edge; they go on from its own last ones."""

    keeps_state = True
    corrects = False

    def own_weights(self, state: Arrays) -> Arrays:
        return kind_of(PERSONAL, state)

    def correction(self, received: Arrays, down: Arrays, state: Arrays) -> Correction:
        return Correction()

    def keep(self, trained: Trained) -> Kept:
        return Kept({f"{PERSONAL}:{name}": trained.trained[name] for name in sorted(trained.personal)})


class FedPerTerm(PersonalLayers):
    """The layers that ``personal_layers`` names: patterns of their weights' names, with commas between."""

    def personal(self, names: Collection[str], buffers: Collection[str]) -> frozenset[str]:
        patterns = [each.strip() for each in str(self.parameters.get("personal_layers", "")).split(",") if each.strip()]
        found = frozenset(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))
        if not found or len(found) == len(names):
            shown = ", ".join(sorted(names)[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
            raise Refused("bad-argument", field="personal_layers",
                          expected=f"patterns of some of the model's weights, not of all: {shown}",
                          got=f"{', '.join(patterns) or 'none'}, which match {len(found)} of {len(names)}")  # fmt: skip
        return found


class FedRepTerm(FedPerTerm):
    """As FedPer; the first ``head_steps`` steps of a round move the edge's own layers, the others the common ones."""

    corrects = True

    def correction(self, received: Arrays, down: Arrays, state: Arrays) -> Correction:
        own = self.personal(received.keys(), ())
        return Correction(first=own, first_steps=int(self.number("head_steps", 1)))


class FedBNTerm(PersonalLayers):
    """The layers that have buffers: those of batch normalisation."""

    def personal(self, names: Collection[str], buffers: Collection[str]) -> frozenset[str]:
        layers = {_layer(name) for name in buffers}
        found = frozenset(name for name in names if _layer(name) in layers)
        if not found:
            expected = "a layer of batch normalisation, which FedBN leaves on the edge"
            raise Refused("bad-argument", field="model", expected=expected, got="none with buffers",
                          hint="Use FedPer, and name the layers.")  # fmt: skip
        return found


def _layer(name: str) -> str:
    return _LAYER.split(name)[0]
