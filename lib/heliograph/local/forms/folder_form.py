"""Directories: images by class, and files that together hold the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heliograph.core.errors import HeliographError
from heliograph.edge_agent.datasets.folder import ImageFolder, Shards
from heliograph.local.forms.form import Form, Request

if TYPE_CHECKING:
    from heliograph.local.forms.form import Owners


class ImageForm:
    """See ``Form``. A part is a directory of links to the source's images: it takes no space, and its end deletes none.

    Each part has a directory for every class, empty where it has none of its images: the classes' order, which numbers
    them, is the same on each edge.
    """

    ending = ""
    columns: Sequence[str] = ("class",)

    def __init__(self, path: Path, found: ImageFolder, request: Request) -> None:
        self._path = path.resolve()
        self._found = found
        self._images = [image for images in found.images.values() for image in images]
        self.samples = len(self._images)
        self.has_test = len(found.uses) > 1
        self.said = f"images of {len(found.images)} classes: {', '.join(found.images)[:200]}"
        if self.has_test:
            self.said += f"; and {', '.join(part for part, use in found.uses.items() if use != 'train')} for the test"
        for _, column in request.columns(self.columns):
            for name, images in found.images.items():
                column.add([name] * len(images))

    def write(self, owners: Owners, targets: Sequence[Path]) -> None:
        train = self._directory("train")
        for target in targets:
            for part in self._found.parts or {"": self._found.images}:
                self._make_classes(target / part, self._found.parts.get(part, self._found.images))
            for part, use in self._found.uses.items():
                if use != "train":
                    self._link(target / part, part, _all(self._found.parts[part]))
        for image, owner in zip(self._images, owners.tolist(), strict=True):
            if owner >= 0:
                self._link(targets[owner] / train, train, (image,))

    def write_test(self, target: Path) -> None:
        uses = self._found.uses
        test = self._directory("test" if "test" in uses.values() else "validation")
        for part in uses:
            source = test if uses[part] == "train" else part
            self._make_classes(target / part, self._found.parts[source])
            self._link(target / part, source, _all(self._found.parts[source]))

    def _directory(self, use: str) -> str:
        return next((part for part, each in self._found.uses.items() if each == use), "")

    def _make_classes(self, target: Path, classes: Mapping[str, Sequence[str]]) -> None:
        for name in classes:
            (target / name).mkdir(parents=True, exist_ok=True)

    def _link(self, target: Path, part: str, images: Iterable[str]) -> None:
        for image in images:
            link = target / image
            if link.parent.parent != target:
                link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self._path / part / image)


class ShardsForm:
    """See ``Form``. A part has a file for each of the source's files of which it has rows, of the same name."""

    has_test = False
    ending = ""

    def __init__(
        self, path: Path, found: Shards, request: Request, open_file: Callable[[Path, Request], Form]
    ) -> None:
        self._forms = {name: open_file(path / name, request) for name in found.files}
        self.samples = sum(each.samples for each in self._forms.values())
        first, *rest = self._forms
        columns = self._forms[first].columns
        for name in rest:
            if self._forms[name].columns != columns:
                raise HeliographError(
                    f"{path}: holds files of different columns, {first} and {name}; "
                    "give all the same columns in the same order"
                )
        self.columns = columns
        if any(each.has_test for each in self._forms.values()):
            raise HeliographError(f"{path}: holds files with test parts of their own; name one of the files")
        said = self._forms[first].said
        self.said = f"{len(found.files)} {found.format} files" + (f", {said}" if said else "")

    def write(self, owners: Owners, targets: Sequence[Path]) -> None:
        import numpy as np

        start = 0
        for target in targets:
            target.mkdir()
        for name, form in self._forms.items():
            mine = owners[start : start + form.samples]
            start += form.samples
            present = np.unique(mine[mine >= 0])
            places = np.full(len(targets) + 1, -1, np.int32)  # the last is for rows of no part: -1
            places[present] = np.arange(len(present))
            form.write(places[mine], [targets[place] / name for place in present.tolist()])

    def write_test(self, target: Path) -> None:
        raise NotImplementedError("these files have no test part of their own")


def _all(classes: Mapping[str, Sequence[str]]) -> Iterable[str]:
    for images in classes.values():
        yield from images
