"""Parts of payloads whose classes are loaded for the first one that comes: most documents of an edge have none."""

from __future__ import annotations

from functools import cached_property
from types import GenericAlias
from typing import TYPE_CHECKING, Any, get_args

from pydantic_core import CoreSchema, core_schema

from heliograph.core.lazy import Reference

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
    from pydantic.json_schema import JsonSchemaValue


class Later:
    """Says in ``Annotated[Any, Later(module, name)]`` that the type of that name is meant."""

    def __init__(self, module: str, name: str) -> None:
        self._reference = Reference(module, name)

    @cached_property
    def type(self) -> Any:
        return self._reference.load()

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return _adapter_of(self.type)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validated)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        # by itself a model would be described in place, not by its name
        within: Any = GenericAlias(list, (self.type,))
        return dict(handler(_adapter_of(within).core_schema)["items"])

    def _validated(self, given: object) -> object:
        return self._adapter.validate_python(given, extra="ignore")  # as in every part of a payload


def _adapter_of(type: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # only a part that comes needs it

    return TypeAdapter(type)


def parts_of(annotation: Any) -> tuple[Any, ...]:
    """Return the types of which an annotation is made."""
    return tuple(each.type if isinstance(each, Later) else each for each in get_args(annotation))
