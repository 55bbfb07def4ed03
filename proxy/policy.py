"""Reads the policy file: YAML into the dataclasses of `schema.py`, with every mistake found at once.

Theory of operation. `parse_yaml` turns the text into a tree of `Node`s that know their line and path; here YAML is
bounded, and the readings of YAML 1.1 that nobody expects (`on:`, `no`, `12:30`) are refused. A `Builder` then walks
a dataclass's annotations and such a tree together. Both note `Problem`s and go on; the one error is `PolicyError`.
"""

import dataclasses
import difflib
import os
import re
import stat
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from proxy.keys import ANY_VALUE, Key, Node, fields_of
from proxy.schema import FilterRule, Policy

#: Bytes of a policy or filter file; a thousand rules need half of it. Long lists of hosts have files of their own.
MAX_POLICY = 256 * 1024
#: Nodes once aliases are expanded: nine levels of nine aliases, the usual "billion laughs", would be 387 million.
MAX_NODES = 50_000
#: Levels; the policy's own are six. PyYAML would go on to Python's recursion limit.
MAX_DEPTH = 32

DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
FRACTION = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{0,18}([eE][-+]?[0-9]{1,3})?")
WORDS: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
DEFAULT = b"""
version: 1
filters:
  - {id: classify, use: classify.Http, on_error: allow}
  - {id: secrets, use: secrets.Secrets}
  - {id: cards, use: cards.Cards}
"""
BROKEN: Any = object()  # stands where a value was, once its problem is noted


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: the file, the line (from 1), the path of keys to it, and what is wrong."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (f"{self.file}:{self.line}", self.path, self.message)))


class PolicyError(ValueError):
    """The policy cannot be used; `errors` has one line of text for each mistake, in the order of the file.

    `sound` are the filter rules that are well formed: their filters may have mistakes of their own.
    """

    def __init__(self, problems: Iterable[Problem], sound: tuple[FilterRule, ...] = ()) -> None:
        self.problems = sorted(problems, key=lambda problem: problem.line)
        self.errors = [str(problem) for problem in self.problems]
        self.sound = sound
        super().__init__("\n".join(self.errors))


def load(path: Path, *, strict: bool | None = None) -> Policy:
    """Read a policy file. Filters are not imported: that is the registry's part.

    `strict` refuses a file that others may write; None means: if we are root. Raises PolicyError.
    """
    try:
        data = read_trusted(path, strict=strict)
    except (OSError, ValueError) as error:
        raise PolicyError([Problem(str(path), 1, "", getattr(error, "strerror", "") or str(error))]) from None
    return parse(data, path)


def parse(data: bytes, path: Path) -> Policy:
    """Build a policy from the text of `path`, to whose folder relative paths in it refer. Raises PolicyError."""
    builder = Builder(path.absolute().parent)
    if root := parse_yaml(data, str(path), builder.problems):
        policy = builder.build(Policy, root)
        for section in ("connections", "filters"):
            builder.refuse_repeated_ids(root.get(section))
    if builder.problems:
        items = root.get("filters").value if root else ()
        built = [Builder(builder.base).build(FilterRule, item) for item in items] if isinstance(items, tuple) else []
        raise PolicyError(builder.problems, tuple(rule for rule in built if rule is not BROKEN))
    return typing.cast(Policy, policy)


def default_policy() -> Policy:
    """What holds without a file: everything is classified, and secrets and card numbers do not leave."""
    return parse(DEFAULT, Path("(no policy file)"))


def read_trusted(path: Path, *, strict: bool | None = None) -> bytes:
    """Read a policy or filter file. If strict, ValueError where others than root, we and sudo's caller can write it."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    if strict or (strict is None and hasattr(os, "geteuid") and os.geteuid() == 0):
        for place in {path, *path.absolute().parents, *path.resolve().parents}:
            refuse_foreign(place, place.stat())
    with path.open("rb") as file:
        data = file.read(MAX_POLICY + 1)
    if len(data) > MAX_POLICY:
        raise ValueError(f"larger than {MAX_POLICY} bytes; put long lists into files of their own")
    return data


def refuse_foreign(path: Path, status: os.stat_result) -> None:
    """A folder counts too: who may write there can replace the file, unless it is sticky, as /tmp is."""
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
        raise ValueError(f"other users may write {path}, and root trusts no such file: chmod go-w {path}")
    if status.st_uid not in {0, os.geteuid(), int(os.environ.get("SUDO_UID", "0"))}:
        raise ValueError(f"{path} belongs to user {status.st_uid}, and root trusts no such file: chown root {path}")


class _Loader(yaml.SafeLoader):
    """Composes at most MAX_DEPTH levels; nothing is ever constructed."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(problem=f"nested deeper than {MAX_DEPTH}", problem_mark=self.get_mark())
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def parse_yaml(data: bytes, file: str, problems: list[Problem]) -> Node | None:
    """Read one YAML document; None if there is nothing to go on with. What is wrong is added to `problems`."""
    try:
        root = yaml.compose(data.decode("utf-8-sig"), _Loader)
        return Node(file, 1, "", {}) if root is None else _Reader(file, problems).node(root, "", 0)
    except UnicodeDecodeError as error:
        problems.append(Problem(file, data.count(b"\n", 0, error.start) + 1, "", "not UTF-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = getattr(error, "problem", None) or str(error).partition("\n")[0]
        problems.append(Problem(file, mark.line + 1 if mark else 1, "", f"not valid YAML: {message}"))
    return None


class _Reader:
    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.file, self.problems, self.count = file, problems, 0

    def node(self, node: yaml.Node, path: str, depth: int) -> Node:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(problem="aliases that expand too far", problem_mark=node.start_mark)
        line = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            return Node(self.file, line, path, dict(self.items(node, path, depth)))
        if isinstance(node, yaml.SequenceNode):
            items = (self.node(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(node.value))
            return Node(self.file, line, path, tuple(items))
        try:
            return Node(self.file, line, path, _scalar(node))
        except ValueError as error:
            self.problems.append(Problem(self.file, line, path, str(error)))
            return Node(self.file, line, path, BROKEN)

    def items(self, node: yaml.MappingNode, path: str, depth: int) -> Iterator[tuple[str, Node]]:
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            try:
                name = _scalar(key)
                if not isinstance(name, str):
                    raise ValueError(f"the key `{key.value}` is not text: quote it")
                if name in seen:
                    raise ValueError(f"`{name}` is given twice, first on line {seen[name]}")
            except ValueError as error:
                self.problems.append(Problem(self.file, line, path, str(error)))
                continue
            seen[name] = line
            yield name, self.node(value, f"{path}.{name}" if path else name, depth + 1)


def _scalar(node: yaml.Node) -> bool | int | float | str | None:
    """Return the value of a scalar; ValueError if YAML 1.1 reads it as something that it does not look like."""
    text, kind = str(node.value), node.tag.removeprefix("tag:yaml.org,2002:")
    if kind == "str":
        return text
    if kind == "null" and text in ("", "~", "null"):
        return None
    if kind == "bool" and text in ("true", "false"):
        return text == "true"
    if kind == "int" and DECIMAL.fullmatch(text):
        return int(text)
    if kind == "float" and FRACTION.fullmatch(text):
        return float(text)
    raise ValueError(_why_refused(kind, text))


def _why_refused(kind: str, text: str) -> str:
    if kind == "bool":
        meant = "true" if text.lower() in ("yes", "on", "true") else "false"
        return f"`{text}` means {meant} to YAML 1.1: write {meant}, or quote it if it is text"
    if kind in ("int", "float"):
        return f"`{text}` is a number to YAML 1.1, not the one it looks like: quote it, or write it in decimal"
    if kind == "timestamp":
        return f"`{text}` is a date to YAML 1.1: quote it"
    return f"`{text[:40]}` ({kind}) has no place here: write plain text, or quote it"


class Builder:
    """Builds typed values out of nodes. Relative paths are taken from `base`, the folder of the file."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.problems: list[Problem] = []

    def build(self, kind: Any, node: Node, key: Key = ANY_VALUE) -> Any:
        """Return the value of type `kind`, or BROKEN with at least one problem noted."""
        if node.value is BROKEN:
            return BROKEN
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return self._record(kind, node)
        kinds = [each for each in arguments if each is not types.NoneType]
        if origin in (typing.Union, types.UnionType) and len(kinds) == 1:
            return None if node.value is None else self.build(kinds[0], node, key)
        if origin is typing.Literal:
            return self._choice(arguments, node)
        if isinstance(origin, type) and issubclass(origin, Collection) and len(set(arguments) - {...}) == 1:
            make = tuple if origin.__module__ == "collections.abc" else origin
            return self._list(make, arguments[0], node, key)
        return node.plain() if kind is Any else self._single(kind, node, key)

    def options(self, cls: type, node: Node) -> dict[str, Any] | None:
        """Return the arguments for a dataclass, or None with every problem noted."""
        before, values, known = len(self.problems), {}, {each.name: each for each in fields_of(cls)}
        if not isinstance(node.value, dict):
            self.note(node, f"expected a mapping, got {node}")
            return None
        for name in (name for name in node.value if name not in known):
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known) or 'none'}"
            self.note(node.get(name), f"unknown key; {hint}")
        for name, each in known.items():
            if name in node.value:
                values[each.attribute] = self.build(each.kind, node.value[name], each.key)
            elif each.required:
                self.note(node, f"`{name}` is missing")
        return values if len(self.problems) == before and BROKEN not in values.values() else None

    def note(self, node: Node, message: str) -> Any:
        """Add a problem at a node and return BROKEN."""
        self.problems.append(Problem(node.file, node.line, node.path, message))
        return BROKEN

    def refuse_repeated_ids(self, rules: Node) -> None:
        """Note every rule of a list that has the id of an earlier one."""
        seen: set[str] = set()
        for rule in rules.value if isinstance(rules.value, tuple) else ():
            name = rule.get("id")
            if name.value is BROKEN:
                continue
            if str(name) in seen:
                self.note(name, f"another rule above has the id {name} too")
            seen.add(str(name) if name is not rule else "")

    def _record(self, cls: type, node: Node) -> Any:
        options = self.options(cls, node)
        if options is None:
            return BROKEN
        places = {each.name: node for each in dataclasses.fields(cls) if each.type is Node}
        try:
            return cls(**options, **places)
        except ValueError as error:
            return self.note(node, str(error))

    def _choice(self, values: Sequence[Any], node: Node) -> Any:
        if (type(node.value), node.value) in [(type(value), value) for value in values]:
            return node.value
        return self.note(node, f"expected {' or '.join(map(str, values))}, got {node}")

    def _list(self, make: Callable[[list[Any]], Any], kind: Any, node: Node, key: Key) -> Any:
        if not isinstance(node.value, tuple):
            return self.note(node, f"expected a list ({WORDS.get(kind, 'a mapping')} each), got {node}")
        values = [self.build(kind, item, key) for item in node.value]
        return BROKEN if BROKEN in values else make(values)

    def _single(self, kind: Any, node: Node, key: Key) -> Any:
        value = node.value
        if kind not in WORDS:
            return self.note(node, f"cannot be set from a policy, as its type is {kind}")
        if type(node.value) is not (str if kind is Path else kind) and not (kind is float and type(node.value) is int):
            quote = "; quote it" if kind is str and isinstance(node.value, int | float) else ""
            return self.note(node, f"expected {WORDS[kind]}, got {node}{quote}")
        if key.minimum is not None and not key.minimum <= value <= (key.maximum or value):
            upper = f" to {key.maximum}" if key.maximum else " or more"
            return self.note(node, f"expected {key.minimum}{upper}, got {node}")
        try:
            value = self.base / Path(value).expanduser() if kind is Path else kind(value)
            return key.convert(str(value)) if key.convert else value
        except (ValueError, RuntimeError) as error:  # RuntimeError: the home of an unknown ~user
            return self.note(node, str(error))
