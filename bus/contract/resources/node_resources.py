"""What a worker asks of its node: memory, GPUs, and of a node with pods cores."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from heliograph.bus.contract.resources.base import Document
from heliograph.bus.contract.versions import added

MOST_BYTES = 1 << 50
MOST_GPUS = 1024
_QUANTITY = r"^[0-9]{1,15}(\.[0-9]{1,3})?(k|M|G|T|Ki|Mi|Gi|Ti)?$"
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
          "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}  # fmt: skip
MEMORY_FORM = "bytes as Kubernetes writes them, such as 512Mi, 4Gi or 2G"

Memory = Annotated[str, StringConstraints(pattern=_QUANTITY, max_length=24)]
"""An amount of memory as Kubernetes writes it: ``512Mi``, ``1.5Gi``, ``2G``, or bytes."""
Cores = Annotated[str, StringConstraints(pattern=r"^([0-9]{1,4}(\.[0-9]{1,3})?|[0-9]{1,7}m)$", max_length=8)]
"""Cores as Kubernetes writes them: ``2``, ``0.5``, or ``500m``, thousandths of one."""
Priority = Annotated[int, Field(ge=-1000, le=1000, strict=True)]
"""Of two workers that do not fit on a node together, the one of the higher priority runs."""


class WorkerResources(Document):
    """What a worker takes of its node. Its agent starts it only while the node has as much left.

    It is a reservation and no limit: a worker that takes more is not ended for it.

    Attributes:
        cpu: cores of a worker that is a pod, such as ``2`` or ``500m``: its node's Kubernetes has as much left.
    """

    memory: Memory | None = None
    gpus: Annotated[int, Field(ge=0, le=MOST_GPUS, strict=True)] = 0
    cpu: Cores | None = added("0.2")

    @field_validator("memory", mode="before")
    @classmethod
    def _as_written(cls, given: Any) -> Any:
        """Take a number as bytes, and refuse what is no amount in one sentence."""
        text = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
        if isinstance(text, str) and (not re.fullmatch(_QUANTITY, text) or memory_bytes(text) > MOST_BYTES):
            raise ValueError(f"expected {MEMORY_FORM}")
        return text

    @field_validator("cpu", mode="before")
    @classmethod
    def _cores_as_written(cls, given: Any) -> Any:
        return str(given) if isinstance(given, (int, float)) and not isinstance(given, bool) else given

    @property
    def memory_bytes(self) -> int:
        """Return the memory in bytes; 0 where it asks for none."""
        return memory_bytes(self.memory) if self.memory is not None else 0


def memory_bytes(text: str) -> int:
    """Return an amount of memory in bytes. Raise ValueError where the text is none."""
    found = re.fullmatch(_QUANTITY, text)
    if found is None:
        raise ValueError(f"expected {MEMORY_FORM}")
    unit = found[2] or ""
    return int(Decimal(text.removesuffix(unit)) * _UNITS[unit])


def shown_bytes(size: int) -> str:
    """Return an amount for people, in the unit in which documents ask for it."""
    for unit in ("Ti", "Gi", "Mi"):
        if size >= _UNITS[unit]:
            return f"{size / _UNITS[unit]:.1f}".removesuffix(".0") + unit
    return f"{size} bytes"

