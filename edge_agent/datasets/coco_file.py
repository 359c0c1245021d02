"""COCO's json: images, annotations and categories, read one element at a time, as large as the file may be.

Format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from heliograph.core.errors import shorten
from heliograph.edge_agent.datasets.label_counts import LabelCounts
from heliograph.edge_agent.datasets.referenced_files import require_beside
from heliograph.edge_agent.datasets.unusable import Unusable

BLOCK = 1 << 20
MAX_VALUE = 16 << 20
"""Characters of one image, annotation or category."""
MAX_IMAGES = 2_000_000
_ID = (int, str)


@dataclass(frozen=True)
class Coco:
    """The images that a COCO file lists, in its order, and the numbers of its categories and annotations."""

    files: list[str]
    categories: int
    annotations: int

    @property
    def samples(self) -> int:
        return len(self.files)

    @property
    def columns(self) -> dict[str, str]:
        return {"image": "image", "annotations": f"objects of {self.categories} categories"}


def read_coco(stream: BinaryIO, labels: LabelCounts | None = None) -> Coco:
    """Read a COCO file. Raise Unusable if it is none, lists an image twice, or annotates one that it does not list.

    Args:
        labels: counts the annotations of each category, by the category's name.
    """
    files: dict[str, None] = {}
    images, annotated = set[Any](), set[Any]()
    names: dict[Any, str] = {}
    counts: Counter[Any] = Counter()
    for key, element in elements(stream):
        if key == "images":
            path = image_path(element)
            if path in files or element["id"] in images:
                raise Unusable(f"lists image {shorten(path)} (id {shorten(element['id'])}) twice; take one away")
            files[path] = None
            images.add(element["id"])
            if len(files) > MAX_IMAGES:
                raise Unusable(f"lists more than {MAX_IMAGES} images; make it several data sets")
        elif key == "annotations":
            image, category = element.get("image_id"), element.get("category_id")
            if not isinstance(image, _ID) or not isinstance(category, _ID):
                raise Unusable(f"has an annotation without image_id and category_id: {shorten(str(element))}")
            annotated.add(image)
            counts[category] += 1
        elif key == "categories":
            if not isinstance(element.get("id"), _ID) or not isinstance(element.get("name"), str):
                raise Unusable(f"has a category without id and name: {shorten(str(element))}")
            names[element["id"]] = element["name"]
    if not files:
        raise Unusable("lists no images; is it COCO's json, with images, annotations and categories?")
    if unlisted := annotated - images:
        raise Unusable(f"annotates image {shorten(str(next(iter(unlisted))))}, which it does not list")
    if unknown := counts.keys() - names.keys():
        raise Unusable(f"has annotations of category {shorten(str(next(iter(unknown))))}, which it does not list")
    if labels is not None:
        for category, times in counts.items():
            labels.add(names[category], times)
    return Coco(list(files), len(names), counts.total())


def directory_of_images(file: Path, first: str) -> Path:
    """Return the directory to which the paths in a COCO file are relative: where the first image lies.

    It is the file's own, ``images`` in it, or beside it in the directory that the file's name ends with:
    ``annotations/instances_train2017.json`` has ``train2017``.
    """
    own = file.parent
    places = (own, own / "images", own.parent / file.stem.rpartition("_")[2], own.parent / "images")
    return next((place for place in places if (place / first).is_file()), own)


def image_path(element: dict[str, Any]) -> str:
    """Return the path that an image names. Raise Unusable for one without, or that leads elsewhere."""
    name = element.get("file_name")
    if not isinstance(element.get("id"), _ID) or not isinstance(name, str):
        raise Unusable(f"has an image without id and file_name: {shorten(str(element))}")
    return require_beside(name, f"as image {shorten(element['id'])}")


def elements(stream: BinaryIO) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the elements of each list of the document, with the list's key. Raise Unusable where it is none of COCO."""
    return ((key, value) for key, value, is_element in entries(stream) if is_element)


def entries(stream: BinaryIO) -> Iterator[tuple[str, Any, bool]]:
    """Yield what the document holds: each element of a list with the list's key and True, any other value with its key
    and False. Elements are mappings. Raise Unusable where it is no document of COCO."""
    text = _Text(stream)
    text.expect("{")
    if text.peek() == "}":
        return
    while True:
        key = text.value()
        if not isinstance(key, str):
            raise text.wrong("a key in quotes")
        text.expect(":")
        if text.peek() == "[":
            text.expect("[")
            while text.peek() != "]":
                element = text.value()
                if isinstance(element, dict):
                    yield key, element, True
                elif key in ("images", "annotations", "categories"):
                    raise text.wrong(f"mappings in {key}")
                if text.peek() != "]":
                    text.expect(",")
            text.expect("]")
        else:
            yield key, text.value(), False
        if text.peek() == "}":
            return
        text.expect(",")


class _Text:
    """JSON text, of which only what is being read is in memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._place = 0
        self._ended = False
        self._before = 0

    def peek(self) -> str:
        """Return the next character that is no space. Raise Unusable at the end."""
        while True:
            while self._place < len(self._text):
                if (found := self._text[self._place]) not in " \t\r\n":
                    return found
                self._place += 1
            if not self._more():
                raise Unusable("is truncated; copy it again")

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise self.wrong(f"'{character}'")
        self._place += 1

    def value(self) -> Any:
        """Read one whole value. Raise Unusable where it is none."""
        self.peek()
        while True:
            try:
                found, end = self._scan(self._text, self._place)
                if end < len(self._text) or self._ended:  # a number may go on
                    self._place = end
                    return found
                error: Exception | None = None
            except RecursionError:
                raise self.wrong("less nesting") from None
            except ValueError as failed:
                error = failed
            if len(self._text) - self._place > MAX_VALUE:
                raise self.wrong(f"a value of at most {MAX_VALUE} characters")
            if not self._more():
                if error is None:
                    continue
                raise Unusable(f"is truncated or no JSON ({shorten(str(error))}); copy it again")

    def wrong(self, expected: str) -> Unusable:
        return Unusable(f"is no COCO json: expected {expected} at character {self._before + self._place}")

    def _more(self) -> bool:
        """Read as much again as is kept, a block at least. Return False at the end."""
        if self._ended:
            return False
        rest = self._text[self._place :]
        data = self._stream.read(max(BLOCK, len(rest)))
        self._ended = not data
        self._before += self._place
        try:
            self._text, self._place = rest + self._decode.decode(data, final=not data), 0
        except UnicodeDecodeError:
            raise Unusable("is no UTF-8 text; save the json as UTF-8") from None
        return True
