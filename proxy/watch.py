"""Which files the rules in force were built from, and whether one of them has changed since."""

import logging
from collections.abc import Iterator
from pathlib import Path

from proxy.registry import FILE
from proxy.session import Rules

log = logging.getLogger(__name__)

type Stamp = tuple[int, int, int] | None


def files_of(policy: Path, rules: Rules) -> Iterator[Path]:
    """The policy, the files that it names, and those that its filters have read.

    A filter says which these are by an attribute or property `files`: a list, tuple or set of `pathlib.Path`s, relative
    ones to the policy's folder.  Anything else of that name says nothing.
    """
    yield policy
    upstream = rules.policy.tls.upstream
    yield from [upstream.trusted_ca] if upstream.trusted_ca else []
    yield from (identity.file for identity in upstream.identities)
    code = (FILE.fullmatch(rule.use) for rule in rules.policy.filters)
    yield from (policy.parent / match["file"] for match in code if match)
    for rule in rules.chain.rules:
        try:
            files = getattr(rule.filter, "files", ())
        except Exception:       # it still filters
            log.warning("filter %s cannot say which files it reads: their changes go unnoticed", rule.id, exc_info=True)
            continue
        if isinstance(files, (list, tuple, set, frozenset)):
            yield from (policy.parent / file for file in files if isinstance(file, Path))


class Watch:
    """Compares times and sizes, as often as it is asked; `policy` is None where there is no file."""

    def __init__(self, policy: Path | None, rules: Rules) -> None:
        self._policy = policy
        self._seen: dict[Path, Stamp] = {}
        self.follow(rules)
        self._last = self._seen

    def follow(self, rules: Rules) -> None:
        """Look at the files of these rules from now on.  What was watched before keeps its stamp: a change that came
        while the rules were being built is still one."""
        files = set() if self._policy is None else set(files_of(self._policy, rules))
        self._seen = {file: self._seen[file] if file in self._seen else _stamp(file) for file in files}

    def mark(self) -> None:
        """The files are about to be read as they are now."""
        self._seen = self._last = self._now()

    def due(self) -> bool:
        """Has a file changed, and has none since the last look?  Half of a list would block half of its hosts."""
        now = self._now()
        quiet, self._last = now == self._last, now
        return quiet and now != self._seen

    def _now(self) -> dict[Path, Stamp]:
        return {file: _stamp(file) for file in self._seen}


def _stamp(file: Path) -> Stamp:
    """None: it cannot be looked at, which is a change as well."""
    try:
        info = file.stat()
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns, info.st_size
