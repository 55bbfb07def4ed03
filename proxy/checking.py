"""The commands that look at filters and policies without starting anything."""

import argparse
import difflib
import inspect
import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from proxy import newfilter
from proxy.options import UsageError
from proxy.policy import PolicyError, Problem
from proxy.registry import BUILT_IN, import_built_in, load_all
from proxy.ways import try_files


def check(arguments: argparse.Namespace) -> int:
    """Is the policy valid, do its lists and filters load?  All mistakes are named at once; exit code 2 with any.

    example:
      lockgate check policy.yaml
    """
    try:
        policy, loaded = load_all(arguments.policy)
        try_files(policy.capture)
    except (OSError, ValueError) as failure:
        error = failure if isinstance(failure, PolicyError) else PolicyError(
            [Problem(str(arguments.policy), 1, "capture", str(failure))])
        if not arguments.json:
            raise error from None
        print(json.dumps({"ok": False, "errors": error.errors}))
        return 2
    if arguments.json:
        notes = {item.rule.id: notes for item in loaded if (notes := _notes(item.filter))}
        answer: dict[str, Any] = {"ok": True, "filters": [item.rule.id for item in loaded]}
        print(json.dumps(answer | ({"notes": notes} if notes else {})))
        return 0
    for item in loaded:
        rule = item.rule
        whole = [name for name in ("request", "response") if callable(getattr(item.filter, name, None))]
        collects = f"; collects whole messages ({', '.join(whole)}), up to {rule.buffer} bytes" if whole else ""
        print(f"{rule.id}: {rule.use}, {rule.mode}, on error {rule.on_error}{collects}")
        print(*(f"  {note}\n" for note in _notes(item.filter)), sep="", end="")
    print(f"{arguments.policy} is valid: {len(policy.connections)} connection rules, {len(loaded)} filters")
    return 0


def _notes(found: object) -> list[str]:
    """What a filter has to say of what it read, as lines of a list that it does not understand."""
    notes = getattr(found, "notes", ())
    return [str(note) for note in notes] if isinstance(notes, (list, tuple)) else []


def filters(arguments: argparse.Namespace) -> int:
    """The built-in filters, what they do and their options; or a new filter of your own, with its test, to begin with.

    `new NAME` writes NAME.py and test_NAME.py into the current folder, and overwrites nothing.

    example:
      lockgate filters
      lockgate filters cards.Cards --json
      lockgate filters new big_uploads
    """
    words: list[str] = arguments.filter_words
    if words[:1] == ["new"]:
        if len(words) != 2:
            raise UsageError("say how it is to be called: lockgate filters new NAME")
        return _new(words[1])
    if unknown := [word for word in words if word not in BUILT_IN]:
        close = difflib.get_close_matches(unknown[0], BUILT_IN, 1)
        raise UsageError(f"no built-in filter {unknown[0]!r}" + (f"; did you mean {close[0]}?" if close else ""))
    for name in sorted(words or BUILT_IN):
        _describe(name, as_json=arguments.json)
    return 0


def _new(name: str) -> int:
    filter, test, policy = newfilter.write(name, Path())
    print(f"{filter}  the filter\n{test}  its test: pytest {test}\n\nin the policy, below `filters:`\n{policy}", end="")
    return 0


def _describe(name: str, *, as_json: bool) -> None:
    found = import_built_in(name)
    options = _options(found)
    text = inspect.getdoc(found) or ""
    if as_json:
        print(json.dumps({"use": name, "doc": text, "options": options}, default=_plain))
        return
    shown = [f"  {key}: {json.dumps(default, default=_plain)}" for key, default in options.items()]
    print(name, *text.splitlines(), *shown, sep="\n  ", end="\n\n")


def _plain(value: Any) -> object:
    return str(value) if isinstance(value, Path) else list(value)


def _options(found: type[Any]) -> dict[str, Any]:
    """A filter's fields and their defaults; null where one must be given."""
    shown = {}
    for each in fields(found):
        if each.init and not each.name.startswith("_"):
            default = each.default_factory() if each.default_factory is not MISSING else each.default
            shown[each.name] = None if default is MISSING else default
    return shown
