"""Keep secrets from leaving: API keys, access tokens, private keys, passwords in URLs."""

from dataclasses import dataclass, field
from functools import cache

from addons.leaks import MOST, Finder, LeakFilter
from addons.names import covers
from addons.scan import PatternSet
from addons.secret_rules import Rule, load
from addons.verdict import Action, Finding, Verdict


@cache
def _compiled(rules: tuple[Rule, ...]) -> PatternSet:
    """Compile once for all instances: it takes half a second, which a reload of the policy need not wait for again."""
    return PatternSet([rule.pattern for rule in rules])


@dataclass
class Secrets(LeakFilter):
    """Secrets in the URL, the headers, and all views of bodies and WebSocket messages.

    `rules` names rules or groups of them (`aws`, `github-token`); none means all.  Two things are no leak: a service's
    own key on its way to that service (a GitHub token to github.com), and the Authorization and Cookie headers, unless
    `credentials_headers` is set.  Weak rules (JSON web tokens, `password=...` and the like) see what logins and API
    calls carry all day, so they alert only, until `rules` names them.
    """

    rules: tuple[str, ...] = ()
    _chosen: dict[str, Rule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        known = load()
        if unknown := [name for name in self.rules if not any(rule.named_by((name,)) for rule in known)]:
            raise ValueError(f"rules: no rule or group {', '.join(map(repr, unknown))}; see `lockgate filters`")
        chosen = tuple(rule for rule in known if not self.rules or rule.named_by(self.rules))
        self._chosen = {rule.id: rule for rule in chosen}
        self._patterns = _compiled(chosen)
        self._weak = frozenset(rule.id for rule in chosen if rule.weak)

    def scanner(self, where: str = "body") -> Finder:
        return Finder(self._patterns, _kind, where, self._weak)

    def weigh(self, found: list[Finding], host: str) -> Verdict | None:
        away = tuple(f for f in found if not covers(self._chosen[f.rule].home, host))
        if not away:
            return None
        strong = tuple(f for f in away if self.rules or f.rule not in self._weak)
        worst = strong or away
        reason = f"secret in the request: {worst[-1].rule} in {worst[-1].where}"
        return Verdict(self._action if strong else Action.ALERT, reason, worst[-MOST:])


def _kind(rule: str) -> str:
    return f"secret.{rule}"
