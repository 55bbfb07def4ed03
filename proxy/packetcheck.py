"""What `doctor` asks of `divert`: pydivert, the kernel, a BPF filesystem, and firewalls that would drop its packets.

A packet that was turned round arrives as a new connection from outside, at a port that no rule of a firewall knows.
"""

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any, Literal

from redirector import divert, handles, wire
from redirector.divert import Divert
from redirector.plan import BackendError, Plan

#: Seconds for a listing of a firewall's rules.
LIST_LIMIT = 5.0
OPEN = ("start with `--capture divert --listen [::]:PORT`, and let TCP to that port in: "
        "nft insert rule {} {} {} tcp dport PORT accept")
_PLAN = Plan((80, 443), 8080, exempt_uid=61184, fail="open", backend="divert", exempt_ports=(61440, 65535))

#: What was found, in words, and what to do about it.
type Finding = tuple[Literal["ok", "warn"], str, str]


def library() -> Iterator[Finding]:
    """Is there a pydivert that can be used, and where does it find what dead processes leave?"""
    if (why := handles.usable()) is not None:
        yield "warn", f"--capture divert is not possible: {why}", ""
        return
    yield "ok", "pydivert can be used", ""
    if not divert.bpffs():
        yield ("warn", "no BPF filesystem on /sys/fs/bpf: each start of divert makes one of its own, so that pydivert "
               "elsewhere on this computer does not know of ours", "mount -t bpf bpf /sys/fs/bpf")


def kernel() -> Iterator[Finding]:
    """Does the kernel take our programs?  To be called in a network namespace of its own."""
    with tempfile.TemporaryDirectory(prefix="lockgate-doctor-") as folder:
        backend = Divert(wire.Start("doctor", folder, _PLAN))
        try:
            backend.install(_PLAN, [])
            yield "ok", "the kernel takes our programs, tried in a network namespace of its own", ""
        except BackendError as error:
            yield "warn", f"--capture divert is not possible: {error}", ""
        finally:
            backend.remove()


def firewall() -> Iterator[Finding]:
    """Rules of this network namespace that keep out what nobody has let in."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        done = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, timeout=LIST_LIMIT, check=False)
        for family, table, chain in closed_inputs(json.loads(done.stdout or "{}")):
            yield ("warn", f"the firewall drops what divert turns round: table {family} {table}, chain {chain}",
                   OPEN.format(family, table, chain))
        return
    for program in ("iptables", "ip6tables"):
        with contextlib.suppress(FileNotFoundError):
            done = subprocess.run([program, "-S", "INPUT"], capture_output=True, timeout=LIST_LIMIT, check=False)
            if done.stdout.startswith(b"-P INPUT DROP"):
                yield ("warn", f"the firewall drops what divert turns round: {program}, -P INPUT DROP",
                       f"start with --listen [::]:PORT; {program} -I INPUT -p tcp --dport PORT -j ACCEPT")


def closed_inputs(ruleset: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Family, table and name of each chain on the input hook that drops or refuses what no rule accepts.

    `ruleset` is nft's own JSON (libnftables-json(5)).
    """
    parts = ruleset.get("nftables", [])
    for chain in (each["chain"] for each in parts if "chain" in each):
        if chain.get("hook") != "input" or chain["family"] not in ("ip", "ip6", "inet"):
            continue
        where = chain["family"], chain["table"], chain["name"]
        rules = [each["rule"] for each in parts if "rule" in each]
        last = [rule["expr"] for rule in rules if (rule["family"], rule["table"], rule["chain"]) == where][-1:]
        if chain.get("policy") == "drop" or any(map(_always_refuses, last)):
            yield where


def _always_refuses(expressions: list[dict[str, Any]]) -> bool:
    words = [name for expression in expressions for name in expression if name not in ("counter", "log", "limit")]
    return words in (["drop"], ["reject"])
