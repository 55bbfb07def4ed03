"""Keep secrets from leaving: API keys, access tokens, private keys, passwords in URLs."""

from dataclasses import dataclass, field
from pathlib import Path

from addons.known_secrets import compiled, known
from addons.leaks import MOST, Finder, LeakFilter
from addons.names import covers
from addons.secret_rules import Rule
from addons.verdict import Action, Finding, Verdict


@dataclass
class Secrets(LeakFilter):
    """Secrets in the URL, the headers, and all views of bodies and WebSocket messages.

    `rules` names rules or groups of them (`aws`, `github-token`); none means all.  Two things are no leak: a service's
    own key on its way to that service (a GitHub token to github.com), and the Authorization and Cookie headers, unless
    `credentials_headers` is set.  Weak rules (JSON web tokens, `password=...` and the like) see what logins and API
    calls carry all day, so they alert only, until `rules` names them.  `packs` are files of more rules in gitleaks'
    TOML format, used beside our own or (`own_rules: false`) in their place.
    """

    rules: tuple[str, ...] = ()
    packs: tuple[Path, ...] = ()
    own_rules: bool = True
    files: list[Path] = field(init=False, repr=False, compare=False)
    notes: list[str] = field(init=False, repr=False, compare=False)
    _chosen: dict[str, Rule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        found = known(self.packs, own=self.own_rules)
        self.files, self.notes, chosen = list(found.files), list(found.notes), found.chosen(self.rules)
        self._chosen = {rule.id: rule for rule in chosen}
        self._patterns = compiled(chosen)
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
