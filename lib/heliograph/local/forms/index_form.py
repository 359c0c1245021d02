"""Indexes of files: a txt with a path and a label a line, and COCO's json.

A part is an index of the same form. The files that it names lie where it says so, as links to the source's: they take
no space, and their end deletes none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import HeliographError
from heliograph.edge_agent.datasets.coco_file import directory_of_images, elements, entries, image_path, read_coco
from heliograph.edge_agent.datasets.source import open_source
from heliograph.edge_agent.datasets.txt_index import lines, read_index
from heliograph.local.forms.csv_form import ending_of, written_like
from heliograph.local.forms.form import Request

if TYPE_CHECKING:
    from heliograph.local.forms.form import Owners


class TxtForm:
    """See ``Form``. A line is copied as it is."""

    has_test = False
    columns: Sequence[str] = ("path", "label")

    def __init__(self, path: Path, request: Request) -> None:
        self._path = path
        with open_source(path) as source:
            found = read_index(source.open())
            self.ending = ending_of(source)
            for name, column in request.columns(self.columns):
                column.add(label if name == "label" else file for _, file, label, _ in lines(source.open()))
        self.samples = found.samples
        self.said = f"an index of {found.samples:,} files of {found.classes} classes"

    def write(self, owners: Owners, targets: Sequence[Path]) -> None:
        with open_source(self._path) as source, ExitStack() as stack:
            files = [stack.enter_context(written_like(source, target)) for target in targets]
            named = lines(source.open())
            for (_, path, _, line), owner in zip(named, owners.tolist(), strict=True):
                if owner >= 0:
                    files[owner].write(f"{line}\n".encode())
                    _link(self._path.parent / path, targets[owner].parent / path)

    def write_test(self, target: Path) -> None:
        raise NotImplementedError("an index has no test part of its own")


class CocoForm:
    """See ``Form``. Each part has its images with their annotations, and all else that the document holds."""

    has_test = False
    columns: Sequence[str] = ()

    def __init__(self, path: Path, request: Request) -> None:
        self._path = path
        with open_source(path) as source:
            found = read_coco(source.open())
            self.ending = ending_of(source)
        request.columns(self.columns)  # an image has objects of many categories, and no one label
        self._images = directory_of_images(path, found.files[0])
        self.samples = found.samples
        self.said = f"{found.samples:,} images with {found.annotations:,} objects of {found.categories} categories"

    def write(self, owners: Owners, targets: Sequence[Path]) -> None:
        with open_source(self._path) as source, ExitStack() as stack:
            parts = [_Lists(stack.enter_context(written_like(source, target))) for target in targets]
            places = self._placed(elements(source.open()), owners.tolist())
            for key, element, is_element in entries(source.open()):
                if not is_element or key not in ("images", "annotations"):
                    for part in parts:
                        (part.add if is_element else part.put)(key, element)
                    continue
                owner = places[element["id" if key == "images" else "image_id"]]
                if owner >= 0:
                    parts[owner].add(key, element)
                    if key == "images":
                        file = image_path(element)
                        _link(self._images / file, targets[owner].parent / file)
            for part in parts:
                part.end()

    def write_test(self, target: Path) -> None:
        raise NotImplementedError("COCO's json has no test part of its own")

    def _placed(self, found: Iterable[tuple[str, dict[str, Any]]], owners: list[int]) -> dict[Any, int]:
        """Return the place of each image's part, by the image's id."""
        images = [element["id"] for key, element in found if key == "images"]
        if len(images) != len(owners):
            raise HeliographError(f"{self._path}: changed while it was read; write it under another name first")
        return dict(zip(images, owners, strict=True))


class _Lists:
    """Writes a JSON mapping of values, and of lists whose elements come one after the other."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._list = ""
        self._mark = "{"

    def add(self, key: str, element: dict[str, Any]) -> None:
        """Write an element of the list of that key."""
        if key == self._list:
            self._write(",\n", element)
        else:
            self._write(f"{self._begun()}{json.dumps(key)}: [", element)
            self._list = key

    def put(self, key: str, value: Any) -> None:
        """Write a value that is no list of elements."""
        self._write(f"{self._begun()}{json.dumps(key)}: ", value)

    def end(self) -> None:
        self._file.write(f"{']' if self._list else ''}{'{' if self._mark == '{' else ''}}}\n".encode())

    def _begun(self) -> str:
        """Return what comes before the next key."""
        before, self._mark, self._list = f"{']' if self._list else ''}{self._mark}\n", ",", ""
        return before

    def _write(self, before: str, value: Any) -> None:
        self._file.write((before + json.dumps(value, ensure_ascii=False)).encode())


def _link(source: Path, link: Path) -> None:
    """Make a link to a file of the source, unless another part of the same directory has it already."""
    if link.is_symlink():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(source.resolve())
    except FileExistsError:
        raise HeliographError(f"{source}: has the name of an edge's part; give it another") from None
