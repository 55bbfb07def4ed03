"""From `use:` and `with:` to filters: what the chain calls, built whole or not at all.

Theory of operation. `build` resolves every rule and notes each mistake; if there was one it raises, and nothing is left
behind: a filter file is executed in a module of its own that is in `sys.modules` only while it is being built, so a
reload always runs what the file says now, and an older policy keeps the code that it was built from.

A filter file is one file. It cannot import its neighbours: they would be neither checked nor reloaded. What needs more
than one file is a package with an entry point.
"""

import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import re
import sys
import traceback
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, count
from pathlib import Path
from typing import Any

import pyparsing

from proxy import operators
from proxy.keys import Node
from proxy.operators import When
from proxy.policy import Builder, PolicyError, load, read_trusted
from proxy.schema import FilterRule, Policy

GROUP = "lockgate.filters"
BUILT_IN = {
    "blocklist.Hosts": "addons.blocklist:Hosts",
    "canary.Canary": "addons.canary:Canary",
    "cards.Cards": "addons.cards:Cards",
    "categories.Categories": "addons.categories:Categories",
    "classify.Http": "addons.classify:Http",
    "classify.Labels": "addons.labelled:Labels",
    "documents.Documents": "addons.documents:Documents",
    "exactdata.ExactData": "addons.exactdata:ExactData",
    "external.External": "addons.external:External",
    "filetypes.FileTypes": "addons.filetypes:FileTypes",
    "icap.Icap": "addons.icap:Icap",
    "keywords.Keywords": "addons.keywords:Keywords",
    "limits.Contents": "addons.contents:Contents",
    "limits.Methods": "addons.limits:Methods",
    "limits.Quotas": "addons.quotas:Quotas",
    "limits.Sizes": "addons.limits:Sizes",
    "limits.Times": "addons.schedule:Times",
    "llm.Prompts": "addons.llm:Prompts",
    "pii.Pii": "addons.pii:Pii",
    "secrets.Secrets": "addons.credentials:Secrets",
    "urls.Rules": "addons.urls:Rules",
}
FILE = re.compile(r"(?P<file>.+\.py)(:(?P<name>\w+))?")
MODULE = "lockgate filter "  # no import statement can name such a module
#: The hooks that the chain calls.  `connection` and those of bodies and views are ours, the others mitmproxy's.
HOOKS = (
    "connection", "requestheaders", "requestbody", "requestviews", "request", "responseheaders", "responsebody",
    "responseviews", "response", "websocket_start", "websocket_message", "websocket_end", "error",
)  # fmt: skip
#: Each level of parentheses takes pyparsing four times as long: 0.2 s for four, 40 s for eight.
MAX_NESTING = 4
QUOTED = re.compile(r"""(["'])(\\.|(?!\1).)*\1""", re.DOTALL)
HELP = f"as in mitmproxy, without ~b ~bq ~bs, and with {operators.HELP}"
#: Operators that would decode a whole body, however far it expands; bodies are for filters, which see them bounded.
BODY_OPERATORS = frozenset({"b", "bq", "bs"})

_serial = count(1)


@dataclass
class NoOptions:
    """Stands for the fields of a class that is no dataclass."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A filter in its place; `matches` is its `when`, None if it always applies."""

    rule: FilterRule
    filter: object
    matches: When | None


def load_all(path: Path, *, strict: bool | None = None) -> tuple[Policy, tuple[Loaded, ...]]:
    """Read a policy and make its filters.  Raises PolicyError with every mistake in the file and in its filters."""
    base = path.absolute().parent
    try:
        policy = load(path, strict=strict)
    except PolicyError as error:
        try:
            build(Policy(1, filters=error.sound), base, strict=strict)
        except PolicyError as more:
            raise PolicyError([*error.problems, *more.problems]) from None
        raise
    return policy, build(policy, base, strict=strict)


def build(policy: Policy, base: Path, *, strict: bool | None = None) -> tuple[Loaded, ...]:
    """Make the filters of a policy; paths are taken from `base`, the folder of the policy file.

    `strict` refuses filter files that others may write; None means: if we are root.
    Raises PolicyError with everything that is wrong, whatever the filters' own code raised.
    """
    builder = Builder(base.absolute())
    loaded: list[Loaded] = []
    try:
        for rule in policy.filters:
            matches = _condition(builder, rule)
            loaded += [Loaded(rule, each, matches) for each in _filters(builder, rule, strict)]
    finally:
        for name in [name for name in sys.modules if name.startswith(MODULE)]:
            del sys.modules[name]
    if builder.problems:
        raise PolicyError(builder.problems)
    return tuple(loaded)


def compile_when(text: str) -> When:
    """Compile a `when` expression; ValueError if it is not one.

    It is mitmproxy's language without the operators on bodies, and with ours.
    """
    depths = accumulate((c == "(") - (c == ")") for c in QUOTED.sub("", text))
    if max(depths, default=0) > MAX_NESTING:
        raise ValueError(f"parentheses nested deeper than {MAX_NESTING}: use several rules")
    try:
        expression = _grammar().parse_string(text, parse_all=True)[0]
    except pyparsing.ParseException as error:
        raise ValueError(f"not a filter expression, at column {error.column}: {text!r} ({HELP})") from None
    except ValueError:  # it says no more
        raise ValueError(f"a regular expression that is none, or an operator other than ! & |: {text!r}") from None
    return When(expression)


@functools.cache
def _grammar() -> Any:
    """Return mitmproxy's grammar with our operators, from a second instance of its module: its own stays as it is."""
    spec = importlib.util.find_spec("mitmproxy.flowfilter")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # mitmproxy writes pyparsing's older names
        spec.loader.exec_module(module)

        class Url(module.FUrl):  # type: ignore[misc]
            @classmethod
            def make(cls, text: str, at: int, tokens: list[str]) -> Any:
                if not re.search(r"\w", tokens[0]):  # `~d a && ~d b` would look for "&&" in the URL, and never match
                    raise ValueError
                return super().make(text, at, tokens)

        kept = [each for each in module.filter_rex if each.code not in BODY_OPERATORS]
        module.filter_rex, module.FUrl = [*kept, *operators.operators(module)], Url
        return module._make()


def _condition(builder: Builder, rule: FilterRule) -> When | None:
    try:
        return None if rule.when is None else compile_when(rule.when)
    except ValueError as error:
        builder.note(rule.source.get("when"), str(error))
        return None


def _filters(builder: Builder, rule: FilterRule, strict: bool | None) -> list[object]:
    """Return the filters that a rule names: one, or all those of a mitmproxy addon file."""
    place, given = rule.source.get("use"), rule.source.get("with")
    try:
        found = _resolve(rule.use, builder.base, strict)
    except ValueError as error:
        builder.note(place, str(error))
        return []
    if isinstance(found, types.ModuleType):
        filters = list(getattr(found, "addons", [found]))
        if given is not rule.source:
            builder.note(given, "a file of mitmproxy addons takes no options; name a class in it: ./file.py:Class")
    else:
        filters = _construct(builder, found, place, given if given is not rule.source else None)
    if any(not any(callable(getattr(each, hook, None)) for hook in HOOKS) for each in filters):
        builder.note(place, f"it has none of the hooks that are called: {', '.join(HOOKS)}")
    return filters


def _construct(builder: Builder, cls: Any, place: Node, given: Node | None) -> list[object]:
    """Call the class with its options; the list is empty if that cannot be done."""
    if not isinstance(cls, type):
        builder.note(place, "not a class")
        return []
    fields: type = cls if dataclasses.is_dataclass(cls) else NoOptions
    node = given or Node(place.file, place.line, place.path, {})
    try:
        options = _foreign(builder.options, fields, node)
        return [] if options is None else [cls(**options)]
    except ValueError as error:  # its __post_init__ did not like the options
        builder.note(node, str(error))
    except Exception as error:
        builder.note(place, _where(error))
    return []


def _resolve(use: str, base: Path, strict: bool | None) -> Any:
    """Return the class or module that `use` names; ValueError if there is none, or if its code fails."""
    if match := FILE.fullmatch(use):
        module = _execute(base / match["file"], strict)
        if match["name"] and not hasattr(module, match["name"]):
            raise ValueError(f"{module.__file__} has no `{match['name']}`")
        return getattr(module, match["name"]) if match["name"] else module
    if use in BUILT_IN:
        return _foreign(import_built_in, use)
    entries = importlib.metadata.entry_points(group=GROUP)
    for entry in entries.select(name=use):
        return _foreign(entry.load)
    known = sorted({*BUILT_IN, *entries.names})
    close = difflib.get_close_matches(use, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}, or ./file.py:Class"
    raise ValueError(f"no filter of this name; {hint}")


def import_built_in(name: str) -> type:
    """Return the class of a built-in filter; KeyError if there is none of this name."""
    module, _, cls = BUILT_IN[name].partition(":")
    found: type = getattr(importlib.import_module(module), cls)
    return found


def _execute(path: Path, strict: bool | None) -> types.ModuleType:
    """Run a filter file in a new module."""
    try:
        source = read_trusted(path, strict=strict)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {getattr(error, 'strerror', '') or error}") from None
    module = types.ModuleType(f"{MODULE}{next(_serial)}: {path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and typing look a class's module up there
    _foreign(lambda: exec(compile(source, path, "exec", optimize=0), module.__dict__))  # noqa: S102  # the operator's own code
    return module


def _foreign[**P, T](call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what runs code of others; whatever that raises becomes a ValueError that says where."""
    try:
        return call(*args, **kwargs)
    except (Exception, SystemExit) as error:
        raise ValueError(_where(error)) from error


def _where(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}: {type(error).__name__}: {error}"
