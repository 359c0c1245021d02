"""Adapters that packages outside Heliograph offer, by entry points of the group ``heliograph.frameworks``.

An entry point has the framework's name and names a class: ``accepts(model)`` tells whether a model is of the framework,
``Adapter(model)`` makes its adapter. It imports the framework only where it has to (docs/frameworks.md).
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from heliograph.core.errors import Refused

if TYPE_CHECKING:
    from heliograph.frameworks import ModelAdapter

GROUP = "heliograph.frameworks"
BUILT_IN = ("jax", "keras", "numpy", "sklearn", "tensorflow", "torch")
"""Names that an installed adapter does not take."""


def installed() -> dict[str, EntryPoint]:
    """Return the entry points sorted by name, without those that bear a built-in framework's name."""
    found = {each.name: each for each in entry_points(group=GROUP) if each.name not in BUILT_IN}
    return dict(sorted(found.items()))


def installed_adapter(model: object) -> ModelAdapter | None:
    """Return the adapter of the first installed package that accepts a model; None if there is none.

    Raise Refused where none accepts it and one cannot be asked.
    """
    failed: Refused | None = None
    for point in installed().values():
        try:
            kind = _load(point)
            if not _called(point, "accepts(model)", kind.accepts, model):
                continue
        except Refused as error:
            failed = failed or error
            continue
        return _made(point, kind, model)
    if failed is not None:
        raise failed
    return None


def _made(point: EntryPoint, kind: Any, model: object) -> ModelAdapter:
    adapter = _called(point, f"{kind.__name__}(model)", kind, model)
    return adapter  # type: ignore[no-any-return]


def _load(point: EntryPoint) -> Any:
    try:
        found = point.load()
    except Exception as error:  # code of another package: any error concerns this framework alone
        raise _unusable(point, f"{type(error).__name__}: {error}") from error
    missing = [name for name in ("accepts", "get", "set") if not callable(getattr(found, name, None))]
    if not isinstance(found, type) or missing:
        raise _unusable(point, f"{found!r} without {missing[0]}()" if isinstance(found, type) else repr(found))
    return found


def _called(point: EntryPoint, call: str, function: Any, model: object) -> Any:
    try:
        return function(model)
    except Refused:  # the adapter's own word about the model
        raise
    except Exception as error:
        raise _unusable(point, f"{call} raised {type(error).__name__}: {error}") from error


def _unusable(point: EntryPoint, got: str) -> Refused:
    return Refused("unusable-framework", field=f"{GROUP}: {point.name} = {point.value}",
                   expected="a class with accepts(model), get() and set(arrays)", got=got,
                   hint="Mend or uninstall the package that declares this entry point.")  # fmt: skip
