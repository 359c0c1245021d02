"""The classes of a model by their index: a list that only grows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from heliograph.bus.contract.resources.label_queue import MAX_CLASSES
from heliograph.core.errors import Refused


class ClassList:
    """Names of classes by their index. Without names a class is its index.

    Raises:
        Refused: if a name comes twice.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self.names = [str(each) for each in names or ()]
        if len(set(self.names)) < len(self.names) or len(self.names) > MAX_CLASSES:
            raise Refused("bad-argument", field="classes", expected=f"each class once, {MAX_CLASSES} at most",
                          got=f"{len(self.names)} names, {len(set(self.names))} different ones")  # fmt: skip

    def __len__(self) -> int:
        return len(self.names)

    def agree(self, names: Sequence[str]) -> None:
        """Take over the names of a job. Raise Refused where an index would get another class."""
        for index, (own, given) in enumerate(zip(self.names, names, strict=False)):
            if own != given:
                raise Refused("bad-classes", field=f"classes[{index}]", expected=f"the class {given}, as in the job: "
                              "an index has its class for ever", got=own,
                              hint="Name the classes in the order of the label queue's schema.")  # fmt: skip
        if len(names) > len(self.names):
            self.names = list(names)

    def index(self, name: object) -> int:
        """Return the index of a class by its name; a new name gets the next one."""
        text = str(name)
        if text not in self.names:
            if len(self.names) >= MAX_CLASSES:
                raise Refused("bad-label", field="y", expected=f"at most {MAX_CLASSES} classes", got=text)
            self.names.append(text)
        return self.names.index(text)

    def name(self, index: int) -> str:
        """Return the name of a class; of one without a name its index."""
        return self.names[index] if index < len(self.names) else str(index)

    def of(self, indices: Iterable[int]) -> list[str]:
        return [self.name(each) for each in indices]
