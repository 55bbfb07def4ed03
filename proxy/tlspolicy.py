"""The policy's `tls` section: what is decrypted, how origins are verified, and the exceptions to that."""

import fnmatch
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from proxy.keys import Key
from proxy.patterns import host_or_label, host_pattern, matches_host
from proxy.rules import ABSOLUTE, Rule

#: What an exception may name.
ACCEPTABLE = tuple(rule for rule in Rule if rule not in ABSOLUTE)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


def certificate_hash(text: str) -> str:
    """Return a certificate's SHA-256 in one form; ValueError if it is none."""
    plain = text.lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
    if not _FINGERPRINT.fullmatch(plain):
        raise ValueError(f"{text!r} is not the SHA-256 of a certificate: 64 hexadecimal digits")
    return plain


def rule(text: str) -> Rule:
    """Return the rule of verification with that name; ValueError if there is none, or none that may be broken."""
    if text not in ACCEPTABLE:
        raise ValueError(f"{text!r} is not a rule that may be broken; those are: {', '.join(ACCEPTABLE)}")
    return Rule(text)


@dataclass(frozen=True, slots=True)
class Exempt:
    """Hosts whose certificates, or TLS, may break the named rules. Every use is recorded."""

    hosts: Annotated[tuple[str, ...], Key("host.example or *.host.example", convert=host_pattern)]
    accept: Annotated[tuple[Rule, ...], Key(
        "the rules that may be broken, as the error page names them", raw=tuple[str, ...], convert=rule)] = ()
    fingerprint: Annotated[str | None, Key("only for this certificate: its SHA-256", convert=certificate_hash)] = None
    min_version: Annotated[Literal["1.0", "1.1", "1.2"], Key("oldest version of TLS to speak with them")] = "1.2"

    def covers(self, host: str) -> bool:
        return any(matches_host(pattern, host) for pattern in self.hosts)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate of ours for origins that ask their clients for one."""

    hosts: Annotated[tuple[str, ...], Key("host.example or *.host.example", convert=host_pattern)]
    file: Annotated[Path, Key("PEM file with the certificate, its chain and its key")]


@dataclass(frozen=True, slots=True)
class Upstream:
    """The TLS session with the origin."""

    trusted_ca: Annotated[Path | None, Key("PEM file that replaces the roots by which origins are verified")] = None
    revocation: Annotated[Literal["check", "require", "stapled", "off"], Key(
        "check: ask, and accept where nobody answers; require: refuse then; stapled: never ask")] = "check"
    exceptions: Annotated[tuple[Exempt, ...], Key("hosts that may break rules")] = ()
    identities: Annotated[tuple[Identity, ...], Key("client certificates; the first match counts")] = ()

    def exempt(self, host: str) -> Exempt | None:
        """The first exception for a host."""
        return next((each for each in self.exceptions if each.covers(host)), None)

    def identity(self, host: str) -> Path | None:
        """The client certificate for a host."""
        return next((each.file for each in self.identities if any(matches_host(p, host) for p in each.hosts)), None)


@dataclass(frozen=True, slots=True)
class Learn:
    """Programs that may be found to pin their hosts' certificates, and then are bypassed for a time."""

    apps: Annotated[tuple[str, ...], Key("executable paths; * ? [] as in a shell, * also matches /")]
    hosts: Annotated[tuple[str, ...], Key("host.example or *.host.example", convert=host_pattern)]

    def covers(self, app: str, host: str) -> bool:
        return app != "" and any(fnmatch.fnmatchcase(app, glob) for glob in self.apps) and \
            any(matches_host(pattern, host) for pattern in self.hosts)


@dataclass(frozen=True, slots=True)
class Tls:
    """What is decrypted."""

    bypass: Annotated[tuple[str, ...], Key("never decrypted: hosts, or label:NAME", convert=host_or_label)] = ()
    pinned: Annotated[Literal["block", "learn"], Key(
        "programs that refuse our certificate: stay blocked, or are learned and bypassed")] = "block"
    ech: Annotated[Literal["inspect", "strip", "block"], Key(
        "hidden server names: inspect what hides one; strip the keys for it from DNS over HTTPS; block as well")
    ] = "inspect"
    learn: Annotated[tuple[Learn, ...], Key("who may be learned, besides those known to pin")] = ()
    upstream: Annotated[Upstream, Key("the session with the origin")] = field(default_factory=Upstream)
