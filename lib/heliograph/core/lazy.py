"""What is imported when it is first used: the names of a package, and the classes that declarations name.

Every process reads all declarations at its start, and uses the classes of a few.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def import_when_used(name: str) -> None:
    """Let ``import name``, of whoever, import the module when something of it is first used. Its package is imported,
    and its own modules can be, without it."""
    package, _, last = name.rpartition(".")
    if name not in sys.modules and (spec := _spec_of(name, package)) is not None:
        unused = sys.modules[name] = _Unused(spec)
        if package:  # whoever writes ``import package.last`` finds it there
            setattr(import_module(package), last, unused)


def _spec_of(name: str, package: str) -> ModuleSpec | None:
    """Return a module's spec; None where it is not installed. The package may import the module: it is not imported."""
    if not package:
        return find_spec(name)
    place = find_spec(package)
    return PathFinder.find_spec(name, place.submodule_search_locations) if place is not None else None


class _Unused(ModuleType):
    """A module until something of it is used: the real one takes its place, and gives it all that it has.

    ``importlib.util.LazyLoader`` loads at the second ``import`` already, which reads ``__spec__``.
    """

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec
        if spec.submodule_search_locations is not None:
            self.__path__ = spec.submodule_search_locations

    def __getattr__(self, name: str) -> Any:
        known = self.__spec__
        assert known is not None
        if sys.modules.get(known.name) is self:
            del sys.modules[known.name]
        vars(self).update(vars(import_module(known.name)))
        return getattr(sys.modules[known.name], name)


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package: it imports the module of a name when the name is first asked for.

    Args:
        package: the package's ``__name__``.
        homes: module below the package to the names that it defines, with spaces between them.
    """
    places = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        module = places.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f"{package}.{module}"), name)
        vars(import_module(package))[name] = found
        return found

    return get


class Reference:
    """A name of a module that has not been imported for it."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def load(self) -> Any:
        return getattr(import_module(self._module), self._name)


class References:
    """A module in declarations: its attributes are references. Type checkers see the module itself."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Reference:
        return Reference(self._module, name)


class Declaration:
    """A base of frozen dataclasses: a field that is given as a reference is loaded when it is first read.

    A field with a default gets it from a ``default_factory``: a default in the class would hide the reference.
    """

    def __post_init__(self) -> None:
        own = vars(self)
        references = {name: value for name, value in own.items() if isinstance(value, Reference)}
        for name in references:
            del own[name]
        own["_references"] = references

    def __getattr__(self, name: str) -> Any:
        reference = vars(self).get("_references", {}).get(name)
        if reference is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        loaded = vars(self)[name] = reference.load()
        return loaded
