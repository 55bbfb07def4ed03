"""How a dataclass stands for a mapping in YAML: its annotations hold each field's documentation and bounds as a `Key`.

`policy.py` builds such classes out of `Node`s; here they turn into JSON Schema.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

JSON_TYPES = {str: "string", Path: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}


@dataclass(frozen=True, slots=True)
class Node:
    """A YAML value (None, bool, int, float, str, a tuple or a dict of nodes) and its place in a file."""

    file: str
    line: int
    path: str
    value: Any

    def get(self, key: str) -> "Node":
        """Return the node under `key`, or this one if it has none: the place to name in an error."""
        return typing.cast(Node, self.value.get(key, self)) if isinstance(self.value, dict) else self

    def plain(self) -> Any:
        """Return the value as plain Python objects."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, tuple) else self.value

    def __str__(self) -> str:
        names = {dict: "a mapping", tuple: "a list", types.NoneType: "nothing"}
        return names.get(type(self.value)) or json.dumps(self.value)


@dataclass(frozen=True, slots=True)
class Key:
    """What an annotation says about a field beyond its type: `name: Annotated[str, Key("what it is for")]`.

    `name` is its name in YAML if it differs. `convert` takes each text, of the type `raw`, or raises ValueError.
    """

    doc: str = ""
    name: str = ""
    raw: Any = None
    convert: Callable[[str], Any] | None = None
    minimum: int | None = None
    maximum: int | None = None


ANY_VALUE = Key()


class Field(NamedTuple):
    """A field of a dataclass as YAML sees it: its name and type there, and whether it must be given."""

    attribute: str
    name: str
    kind: Any
    key: Key
    required: bool
    default: Any


def fields_of(cls: type) -> list[Field]:
    """Return what a mapping for `cls` may hold. NameError if an annotation names something unknown."""
    found = []
    hints = typing.get_type_hints(cls, include_extras=True)
    for each in dataclasses.fields(cls):
        kind, key = hints[each.name], ANY_VALUE
        if typing.get_origin(kind) is Annotated:
            key = next((extra for extra in kind.__metadata__ if isinstance(extra, Key)), key)
            kind = kind.__origin__
        if each.init and kind is not Node and not each.name.startswith("_"):
            required = each.default is each.default_factory  # both are MISSING
            found.append(Field(each.name, key.name or each.name, key.raw or kind, key, required, each.default))
    return found


def json_schema(kind: Any, key: Key = ANY_VALUE) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record_schema(kind)
    if origin in (typing.Union, types.UnionType):     # which of them depends on what is united, and on the Python
        return {"anyOf": [json_schema(argument, key) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": json_schema(arguments[0], key)}
    bounds = {"minimum": key.minimum, "maximum": key.maximum} if kind is int else {}
    return {"type": JSON_TYPES.get(kind, "object")} | {name: n for name, n in bounds.items() if n is not None}


def _record_schema(cls: type) -> dict[str, Any]:
    properties = {}
    for each in (fields := fields_of(cls)):
        properties[each.name] = schema = json_schema(each.kind, each.key) | {"description": each.key.doc}
        if each.default is not dataclasses.MISSING:
            schema["default"] = list(each.default) if isinstance(each.default, tuple) else each.default
    required = [each.name for each in fields if each.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
