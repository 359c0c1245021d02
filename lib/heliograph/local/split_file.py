"""Splitting a data set into one of the same form for each edge, for ``run`` and the demo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import HeliographError, Refused
from heliograph.core.private_files import make_private
from heliograph.edge_agent.datasets.csv_look import Header
from heliograph.edge_agent.datasets.unusable import Unusable
from heliograph.local.forms.form import Form, Request
from heliograph.local.forms.labels import Values
from heliograph.local.forms.opening import open_form
from heliograph.local.split import Split, train_and_test

if TYPE_CHECKING:
    import numpy as np

    Places = np.ndarray[Any, Any]

STEP = 64 << 20
"""Bytes between two lines about progress."""


@dataclass(frozen=True)
class Parts:
    """The file or directory and the number of samples of each edge, and that of the test if one is wanted.

    Attributes:
        found: sentences about what was found by looking, to be shown once.
    """

    files: dict[str, Path] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    test: Path | None = None
    found: tuple[str, ...] = ()


def split_file(
    source: Path, directory: Path, edges: list[str], split: Split, *, seed: int, test: float = 0.0, label: str = "",
    header: Header | None = None, own_test: bool = False, doing: Callable[[str], None] = lambda what: None,
) -> Parts:  # fmt: skip
    """Split a data set into a part for each edge; memory grows with the number of samples, not with their size.

    Args:
        source: any file or directory that an agent indexes.
        directory: directory of the files written.
        edges: names of the edges.
        split: kind of split.
        seed: seed of the random generator.
        test: share of the samples kept for the test, 0 to 1; the same share of each class where labels are found.
        label: name or number of the array or column of classes; without it usual names are tried.
        header: whether a csv's first line names its columns; None: its cells decide.
        own_test: whether a test part that lies in the source becomes the test.
        doing: called with a line about progress, of a large file.

    Raises:
        HeliographError: naming the file, if it is missing, unreadable, no such data set, or does not fit the split.
    """
    if not source.exists():
        raise HeliographError(f"{source}: there is no such file; --data takes a file of data or a directory")
    request = Request(str(source), label, split.column, split.by_label, header, _Telling(source, doing))
    form = open_form(source, request)
    labels = request.labels()
    found = [f"{source.name}: {form.said}"] if form.said else []
    if labels is not None and labels.missing:
        found.append(f"{labels.missing:,} of {form.samples:,} labels are missing in {labels.name}")
    classes, groups = _classes(form, labels, split, source), request.groups()
    train, kept = _held_out(form, labels, test, seed)
    dealt_by = groups.codes if groups is not None else classes
    if groups is not None and groups.missing:
        raise Refused("no-groups", topic=str(source), field=f"column {groups.name}", expected="a value for each sample",
                      got=f"{groups.missing} missing of {form.samples}", hint="Delete these samples.")  # fmt: skip
    parts = split.parts(dealt_by[train], len(edges), seed)
    make_private(directory)
    files = {edge: directory / f"{edge}{form.ending}" for edge in edges}
    targets = [*files.values()]
    owners = _owners(form.samples, [train[part] for part in parts])
    result = Parts(files, {edge: len(part) for edge, part in zip(edges, parts, strict=True)}, found=tuple(found))
    if test:
        owners[kept] = len(targets)
        targets.append(directory / f"test{form.ending}")
        result = Parts(result.files, result.samples, targets[-1], result.found)
    try:
        form.write(owners, targets)
        if own_test and not test and form.has_test:
            target = directory / f"test{form.ending}"
            form.write_test(target)
            result = Parts(result.files, result.samples, target, result.found)
    except Unusable as error:  # it has changed since it was opened
        raise HeliographError(f"{source} {error}") from None
    return result


def _classes(form: Form, labels: Values | None, split: Split, source: Path) -> Places:
    import numpy as np

    if not split.by_label or labels is None:
        return np.zeros(form.samples, np.int8)
    name = f"dirichlet:{split.alpha:g}" if split.alpha is not None else f"by-label:{split.labels}"
    labels.require_classes(str(source), name)
    return labels.codes


def _held_out(form: Form, labels: Values | None, share: float, seed: int) -> tuple[Places, Places]:
    import numpy as np

    if not share:
        return np.arange(form.samples), np.arange(0)
    strata = labels.codes if labels is not None and not labels.fault() else None
    return train_and_test(form.samples, share, seed, strata)


def _owners(samples: int, parts: list[Places]) -> Places:
    import numpy as np

    owners = np.full(samples, -1, np.int32)
    for place, part in enumerate(parts):
        owners[part] = place
    return owners


class _Telling:
    """Says how far a step has come, each STEP bytes: a small file passes in silence."""

    def __init__(self, source: Path, doing: Callable[[str], None]) -> None:
        self._source = source
        self._doing = doing
        self._last = ("", 0)

    def __call__(self, step: str, done: int) -> None:
        mark = (step, done // STEP)
        if mark != self._last and mark[1]:
            self._last = mark
            self._doing(f"{step} {self._source.name}: {done >> 20} MB")
