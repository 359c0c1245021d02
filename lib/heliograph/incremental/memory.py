"""The memory of a model that learns on: exemplars that replay keeps, and what strategies remember beside them.

It is one file in the form of a shard, with further tensors: ``seen`` has the classes that have been trained, and those
whose names begin with ``state:`` are the strategies' own. A sample that is no array is in it as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from heliograph.core.errors import Refused
from heliograph.incremental.sample_files import read_samples, text_arrays
from heliograph.incremental.samples import ID_BYTES, Samples

if TYPE_CHECKING:
    from heliograph.bus.contract.weights_file import TensorFile

Array = np.ndarray[Any, Any]
_STATE, _SEEN = "state:", "seen"


@dataclass(frozen=True, eq=False)
class Memory:
    """What a model keeps of earlier rounds.

    Attributes:
        samples: the exemplars; None where none are kept.
        seen: the classes that have been trained, by their index, rising.
        state: arrays of the strategies, by name.
    """

    samples: Samples | None = None
    seen: tuple[int, ...] = ()
    state: Mapping[str, Array] = field(default_factory=dict)

    def with_samples(self, samples: Samples) -> Memory:
        return replace(self, samples=samples if len(samples) else None)

    def with_state(self, arrays: Mapping[str, Array]) -> Memory:
        return replace(self, state={**self.state, **arrays})

    def with_seen(self, classes: Array) -> Memory:
        return replace(self, seen=tuple(sorted({*self.seen, *classes.tolist()})))

    def state_of(self, prefix: str) -> dict[str, Array]:
        """Return the arrays whose names begin with ``prefix``, without it."""
        return {name.removeprefix(prefix): each for name, each in self.state.items() if name.startswith(prefix)}

    def arrays(self) -> dict[str, Array]:
        """Return the tensors of the memory's file."""
        found = {_STATE + name: array for name, array in self.state.items()}
        found[_SEEN] = np.array(self.seen, np.int32)
        if (kept := self.samples) is None:
            return found | {"id": np.zeros((0, ID_BYTES), np.uint8), "y": np.zeros(0, np.int32)}
        found |= {"id": kept.id, "y": kept.y.astype(np.int32)}
        if kept.x.dtype.kind != "O":
            return found | {"x": kept.x}
        return found | text_arrays([json.dumps(each, ensure_ascii=False).encode() for each in kept.x])


def read_memory(file: TensorFile) -> Memory:
    """Return the memory of a file, as copies. Raise Refused where the file is none."""
    arrays = file.arrays()
    seen = arrays.get(_SEEN)
    if seen is None or seen.ndim != 1 or seen.dtype.kind != "i":
        raise Refused("bad-shard", topic=file.name, field=_SEEN, expected="the indices of classes",
                      got="none" if seen is None else f"{seen.dtype} {seen.shape}")  # fmt: skip
    state = {name.removeprefix(_STATE): each.copy() for name, each in arrays.items() if name.startswith(_STATE)}
    ids = arrays.get("id")
    samples = None if ids is not None and not len(ids) else read_samples(file, json.loads)
    return Memory(samples, tuple(seen.tolist()), state)
