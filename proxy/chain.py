"""The filter chain: asks the filters in policy order and turns what they say, or fail to say, into decisions.

Nothing here enforces; `stream.py` does.  A filter that raises, returns nonsense or misses its deadline has not given an
opinion, so its rule's `on_error` speaks for it.
"""

import asyncio
import inspect
import time
import types
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mitmproxy import flow as mitmflow
from mitmproxy import http

from addons.connection import Connection
from addons.verdict import DONE, Action, BodyScanner, Finding, Verdict
from proxy.deadline import Missed, limited
from proxy.operators import When
from proxy.registry import HOOKS, Loaded

#: A filter that misses this many deadlines in a row is not asked for `REST` seconds: its `on_error` answers for it
#: at once, so that one hung filter does not cost every other connection its deadline again and again.
PATIENCE = 3
REST = 5.0
#: How the reason begins where a filter raised something, which follows.
FAILED = "the filter failed"
MOST_REDACTED = 100     # findings in one event
#: Alerts kept of one request, until its end: a WebSocket may last for days.
MOST_ALERTS = 1000


@dataclass(frozen=True, slots=True)
class Decision:
    """What one rule decided, and why.  `failed` says that `on_error` spoke, not the filter."""

    action: Action
    rule: str
    reason: str
    findings: tuple[Finding, ...] = ()
    failed: bool = False
    monitored: Action | None = None     # in `mode: monitor`, what it would have done
    redacted: bool = False              # what was to be masked has been
    answered: bool = False              # a stock addon has put its own response into the flow

    @property
    def told(self) -> str:
        """The reason, for clients: what a filter raised may name files, addresses and values."""
        return FAILED if self.reason.startswith(FAILED) else self.reason


@dataclass(slots=True, eq=False)
class Rule:
    """A filter in its place in the chain."""

    id: str
    filter: object
    matches: When | None
    monitor: bool
    on_error: Action
    deadline: float                     # seconds
    buffer: int                         # bytes
    answer: Literal["page", "placeholder", "reset"] = "page"
    misses: int = 0
    resting_until: float = 0.0
    hooks: dict[str, Callable[..., Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, loaded: Loaded) -> "Rule":
        rule = loaded.rule
        hooks = {name: hook for name in HOOKS if callable(hook := getattr(loaded.filter, name, None))}
        for body, views in ("requestbody", "requestviews"), ("responsebody", "responseviews"):
            if views in hooks:      # the body is the first of its views
                hooks.pop(body, None)
        return cls(rule.id, loaded.filter, loaded.matches, rule.mode == "monitor", Action(rule.on_error),
                   rule.deadline / 1000, rule.buffer, rule.answer, hooks=hooks)

    def concerns(self, connection: Connection) -> bool:
        """Tell whether its `when` could hold for requests of whoever connects; if that cannot be told, it could."""
        return self.matches is None or self.guarded(self.matches.concerns, connection.process) is not False

    def decision(self, verdict: Verdict) -> Decision | None:
        if verdict is DONE:
            return None
        if self.monitor and verdict.action is not Action.ALERT:
            reason = f"would {verdict.action}: {verdict.reason}"
            return Decision(Action.ALERT, self.id, reason, verdict.findings, monitored=verdict.action)
        return Decision(verdict.action, self.id, verdict.reason, verdict.findings)

    def failure(self, what: str) -> Decision:
        """The filter gave no opinion: `on_error` gives it."""
        if self.monitor or self.on_error is Action.ALLOW:
            return Decision(Action.ALERT, self.id, f"{what}; not filtered", failed=True)
        return Decision(Action.BLOCK, self.id, what, failed=True)

    def guarded(self, hook: Callable[..., Any], *args: object) -> Any:
        """Call a hook under the deadline; return its result or, where it has none, a failed `Decision`."""
        if self.misses >= PATIENCE:
            if time.monotonic() < self.resting_until:
                return self.failure("the filter keeps missing its deadline and is resting")
            self.misses = 0
        try:
            result = limited(self.deadline, hook, *args)
        except Missed:
            return self.missed()
        except BaseException as error:
            return self.failure(f"{FAILED}: {type(error).__name__}: {error}"[:500])
        self.misses = 0
        return result

    async def awaited(self, result: Awaitable[object]) -> object:
        """Wait for what a hook or a scanner has promised, under the deadline; what fails is a failed `Decision`."""
        try:
            async with asyncio.timeout(self.deadline):
                return await stepwise(self.deadline, result)
        except (TimeoutError, Missed):
            return self.missed()
        except asyncio.CancelledError:      # the connection has ended, not the filter
            raise
        except BaseException as error:
            return self.failure(f"{FAILED}: {type(error).__name__}: {error}"[:500])

    def missed(self) -> Decision:
        self.misses += 1
        self.resting_until = time.monotonic() + REST
        return self.failure(f"the filter missed its deadline of {self.deadline * 1000:.0f} ms")

    def verdict(self, result: object) -> Decision | None:
        """Turn a hook's result into a decision; anything but a verdict or None is a failure."""
        match result:
            case None | Decision():
                return result
            case Verdict():
                return self.decision(result)
            case _:
                return self.failure(f"the filter returned {type(result).__name__}, not a verdict")


@dataclass(slots=True)
class Exchange:
    """One request and its response on their way through the chain that was in force when it began."""

    flow: http.HTTPFlow
    rules: tuple[Rule, ...]
    decision: Decision | None = None    # the final one: allow, block or kill
    alerts: list[Decision] = field(default_factory=list)
    untold: int = 0                     # alerts beyond those that are kept
    skipped: set[tuple[str, str]] = field(default_factory=set)      # (rule, hook) passed over: its message grew too big

    def note(self, decision: Decision | None) -> bool:
        """Keep a decision; return whether it is final."""
        if decision is None:
            return False
        if decision.action is Action.REDACT and not decision.redacted:     # nobody could: it must not be a way round
            decision = replace(decision, action=Action.BLOCK, reason=f"{decision.reason}; it cannot be redacted here")
        if decision.action is Action.ALERT or (decision.redacted and not self._adds(decision)):
            if len(self.alerts) < MOST_ALERTS:
                self.alerts.append(decision)
            else:
                self.untold += 1
        if decision.action is Action.ALERT or decision.redacted:
            return False
        self.decision = decision
        return True

    def _adds(self, new: Decision) -> bool:
        """Add to what the rule has redacted before, if it has: one event tells of it all."""
        for i, old in enumerate(self.alerts):
            if old.rule == new.rule and old.redacted:
                self.alerts[i] = replace(old, findings=(old.findings + new.findings)[:MOST_REDACTED])
                return True
        return False

    @property
    def stopped(self) -> bool:
        return self.decision is not None and self.decision.action is not Action.ALLOW

    @property
    def manner(self) -> Literal["page", "placeholder", "reset"]:
        """How the rule that decided wants to be answered for."""
        decided = self.decision.rule if self.decision else ""
        return next((rule.answer for rule in self.rules if rule.id == decided), "page")

    def asking(self, hook: str) -> Iterator[Rule]:
        """The rules that have this hook and match, in order, up to the one that allowed."""
        if self.decision is not None and self.decision.action is not Action.ALLOW:
            return
        for rule in self.rules:
            if hook in rule.hooks and (rule.id, hook) not in self.skipped and self.applies(rule):
                yield rule
            if self.decision is not None and rule.id == self.decision.rule:
                return

    def applies(self, rule: Rule) -> bool:
        if rule.matches is None:
            return True
        matched = rule.guarded(rule.matches, self.flow)
        return matched if isinstance(matched, bool) else True   # an expression that fails must not be a way round

    async def ask(self, hook: str) -> None:
        """Call one hook of every rule that has it, until one decides."""
        if (waiting := self.ask_now(hook)) is not None:
            await waiting

    def ask_now(self, hook: str) -> Awaitable[None] | None:
        """The same, as far as it goes without waiting: mostly to the end.  Returns what is still to be awaited."""
        return self._ask(hook, self.asking(hook))

    def _ask(self, hook: str, rules: Iterator[Rule]) -> Awaitable[None] | None:
        for rule in rules:
            before = self.flow.response
            result = rule.guarded(rule.hooks[hook], self.flow)
            if result is not None and inspect.isawaitable(result):
                return self._go_on(hook, rules, rule, before, result)
            if self.note(self._heard(hook, rule, rule.verdict(result))) or self._acted(rule, before):
                break
        return None

    def _heard(self, hook: str, rule: Rule, decision: Decision | None) -> Decision | None:
        """What is to be masked in a head is masked at once; nothing else can be, here."""
        from proxy.redacting import head  # it imports this

        if decision is None or decision.action is not Action.REDACT or hook != "requestheaders":
            return decision
        return head(self.flow.request, decision, rule, lambda: rule.guarded(rule.hooks[hook], self.flow))

    async def _go_on(self, hook: str, rules: Iterator[Rule], rule: Rule, before: http.Response | None,
                     result: Awaitable[object]) -> None:
        """Wait for this rule's answer, then ask the others."""
        decision = self._heard(hook, rule, rule.verdict(await rule.awaited(result)))
        decided = self.note(decision) or self._acted(rule, before)
        if not decided and (waiting := self._ask(hook, rules)) is not None:
            await waiting

    def _acted(self, rule: Rule, before: http.Response | None) -> bool:
        """A stock mitmproxy addon acts on the flow itself: it answered or killed it."""
        error = self.flow.error
        if error is not None and error.msg == mitmflow.Error.KILLED_MESSAGE:
            return self.note(Decision(Action.KILL, rule.id, "killed by the addon"))
        if before is None and self.flow.response is not None:
            return self.note(Decision(Action.BLOCK, rule.id, "answered by the addon", answered=True))
        return False

    def scanners(self, hook: str) -> list[tuple[Rule, BodyScanner]]:
        """The body scanners of the rules that want this message; a rule that fails to give one decides at once."""
        return self._made(hook, callable)

    def viewers(self, hook: str) -> list[tuple[Rule, Any]]:
        """The same for the scanners of the message's views."""
        return self._made(hook, lambda viewer: callable(getattr(viewer, "opened", None)))

    def _made(self, hook: str, fits: Callable[[object], bool]) -> list[tuple[Rule, Any]]:
        found: list[tuple[Rule, Any]] = []
        for rule in self.asking(hook):
            made = rule.guarded(rule.hooks[hook], self.flow)
            if made is None:
                continue
            if fits(made):
                found.append((rule, made))
            elif self.note(rule.verdict(made)):
                break
        return found

    def buffering(self, hook: str) -> list[Rule]:
        """The rules whose hook needs the whole message."""
        return list(self.asking(hook))


@types.coroutine
def stepwise(seconds: float, awaitable: Awaitable[object]) -> Generator[Any, Any, object]:
    """Await something each step of which is limited like a synchronous call; what will not be cancelled is dropped."""
    steps: Any = awaitable.__await__()
    error: BaseException | None = None
    while True:
        try:
            waits_for = limited(seconds, steps.throw, error) if error else limited(seconds, steps.send, None)
        except StopIteration as done:
            return done.value
        if isinstance(error, asyncio.CancelledError):
            raise error
        error = None
        try:
            yield waits_for
        except BaseException as raised:
            error = raised


class Chain:
    """The filters of one policy, in order."""

    def __init__(self, loaded: Sequence[Loaded]) -> None:
        self.rules = tuple(Rule.of(item) for item in loaded)
        self._connection = tuple(rule for rule in self.rules if "connection" in rule.hooks)

    def begin(self, flow: http.HTTPFlow) -> Exchange:
        return Exchange(flow, self.rules)

    def connection(self, connection: Connection) -> tuple[Decision | None, list[Decision]]:
        """Ask before anything is dialled; return the final decision, if any, and the alerts on the way."""
        alerts: list[Decision] = []
        for rule in self._connection:
            if not rule.concerns(connection):
                continue
            decision = rule.verdict(rule.guarded(rule.hooks["connection"], connection))
            if decision is None:
                continue
            if decision.action is not Action.ALERT:
                final = decision.action is not Action.REDACT    # of which there is nothing to be masked
                return decision if final else replace(decision, action=Action.BLOCK), alerts
            alerts.append(decision)
        return None, alerts
