"""Which secrets a filter looks for: our rules, those of services, and the packs that a policy names; compiled once."""

from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

from addons import rule_packs
from addons.scan import PatternSet
from addons.secret_rules import RULES, Rule, load

#: Rules of others, with their source and licence, that find what ours do not.
SERVICES: Final = RULES.with_name("services.toml")


@dataclass(frozen=True, slots=True)
class Known:
    """Rules, the most telling first; `notes` is what packs ask for that is not done, `files` are those read."""

    rules: tuple[Rule, ...]
    notes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def chosen(self, names: tuple[str, ...]) -> tuple[Rule, ...]:
        """Return the rules of these ids and groups, all for no name; ValueError if a name is unknown."""
        if unknown := [name for name in names if not any(rule.named_by((name,)) for rule in self.rules)]:
            raise ValueError(f"rules: no rule or group {', '.join(map(repr, unknown))}; see `lockgate filters`")
        if not (chosen := tuple(rule for rule in self.rules if not names or rule.named_by(names))):
            raise ValueError("there are no rules: own_rules is false, and no pack has one")
        return chosen


@cache
def ours() -> tuple[Rule, ...]:
    """Return the rules that come with this package."""
    return (*load(), *rule_packs.read(SERVICES).rules)


def known(packs: tuple[Path, ...] = (), *, own: bool = True) -> Known:
    """Return our rules and those of packs; a pack's rule takes the place of an earlier one of the same id.

    Raises ValueError for a pack that cannot be read.
    """
    read = [rule_packs.read(path) for path in packs]
    rules = {rule.id: rule for rule in (ours() if own else ())}
    for pack in read:
        rules = {name: rule for name, rule in rules.items() if name not in pack.disabled}
        rules |= {rule.id: rule for rule in pack.rules}
    return Known(
        tuple(sorted(rules.values(), key=lambda rule: rule.weak)),
        tuple(note for pack in read for note in pack.notes),
        tuple(file for pack in read for file in pack.files),
    )


#: As many sets as policies may use at a time: that before a reload, that after it, and instances with other `rules`.
@lru_cache(8)
def compiled(rules: tuple[Rule, ...]) -> PatternSet:
    """Compile once for all instances: 300 rules take a second, which a reload of the policy need not wait for again."""
    return PatternSet([rule.pattern for rule in rules])
