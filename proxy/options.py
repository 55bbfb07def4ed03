"""The options of the command line, each declared once."""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class UsageError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """What a start may meet (no right, no port, no folder ...) is told without a traceback."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None


@contextlib.contextmanager
def refused_reading() -> Iterator[None]:
    """Not every OSError: one of standard output is no mistake of the request."""
    try:
        yield
    except (FileNotFoundError, PermissionError, ValueError) as error:
        raise UsageError(str(error)) from None


def tell(message: str) -> None:
    print(f"lockgate: {message}", file=sys.stderr, flush=True)


def default_state() -> Path:
    """Root's state is the system's; a user's is where XDG puts it (XDG Base Directory Specification).

    The system's is not /var/lib/lockgate itself: that stays root's, with the record by which `ca uninstall` restores
    files, while the state belongs to the proxy's user.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/lockgate/state")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "lockgate"


def state(arguments: argparse.Namespace) -> Path:
    return Path(arguments.state or default_state()).absolute()


def uid_of(user: str) -> int:
    """The uid of a user by name or number.  Raises UsageError."""
    import pwd  # not on Windows

    try:
        return int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise UsageError(f"there is no user {user!r}") from None


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: write it as 127.0.0.1:8080 or [::1]:8080")
    return host.strip("[]"), int(port)


def ports(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isdecimal() and 0 < int(word) < 65536 for word in words):
        raise argparse.ArgumentTypeError(f"{text!r}: write ports as 80 or 80,8080")
    return tuple(dict.fromkeys(map(int, words)))


def port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, from 1 to 65535")
    return int(text)


def count(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


_FILE: dict[str, Any] = {"type": Path, "metavar": "FILE"}

OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "policy": (("--policy",), {**_FILE, "help": "the policy; without one, the built-in defaults"}),
    "policy_file": (("policy",), {**_FILE, "help": "the policy"}),
    "filter_words": (("filter_words",), {"nargs": "*", "metavar": "NAME | new NAME",
                                         "help": "only these; or a new one of this name"}),
    "recorded": (("file",), {**_FILE, "help": "a HAR file, or one of mitmproxy's flows"}),
    "against": (("--against",), {**_FILE, "help": "another policy: say what it would decide otherwise"}),
    "state": (("--state",), {"type": Path, "metavar": "DIR",
                             "help": "keys and events; default: /var/lib/lockgate/state for root, "
                                     "~/.local/state/lockgate for others"}),
    "run_dir": (("--run-dir",), {"default": "/run/lockgate", "metavar": "DIR", "help": "records of what runs as root"}),
    "user": (("--user",), {"help": "run the proxy as this user; default: lockgate where it exists, else nobody's uid"}),
    "capture": (("--capture",), {"choices": ("auto", "nftables", "divert", "explicit"), "default": "auto",
                                 "help": "by the kernel's NAT, by packets (both need root), or from clients that know "
                                         "the proxy; auto says which fits here"}),
    "run_capture": (("--capture",), {"choices": ("auto", "nftables", "divert", "hook", "explicit"), "default": "auto",
                                     "help": "by the kernel's NAT, by packets (both need root), by redirecting each "
                                             "connect() (needs no rights), or by variables; auto says which fits"}),
    "listen": (("--listen",), {"type": address, "metavar": "HOST:PORT",
                               "help": "where the explicit proxy listens; for divert the port counts"}),
    "allow_anyone": (("--allow-anyone",), {"action": "store_true", "help": "serve other computers without a password"}),
    "system_proxy": (("--system-proxy",), {"nargs": "?", "const": "watch", "choices": ("watch", "repair"),
                                           "help": "be the system's proxy meanwhile; what others change is said, or "
                                                   "set again"}),
    "prefix": (("--prefix",), {"type": Path, "metavar": "DIR",
                               "help": "the system's files are below DIR, as in an image; default: /"}),
    "setting_action": (("setting_action",), {"metavar": "show|set|unset", "choices": ("show", "set", "unset"),
                                             "help": "what to do with the setting"}),
    "to": (("--to",), {"type": address, "metavar": "HOST:PORT", "help": "the proxy; default: the one that runs"}),
    "places": (("--places",), {"metavar": "NAMES", "help": "environment, pac, gnome, apt, windows; default: all that "
                                                           "are here but apt"}),
    "proxy_user": (("proxy_user",), {"metavar": "NAME", "help": "who may use the proxy"}),
    "only_user": (("--only-user",), {"metavar": "USER", "help": "capture this user's connections only"}),
    "only_cgroup": (("--only-cgroup",), {"metavar": "PATH", "help": "capture this control group's connections only"}),
    "forward": (("--forward",), {"action": "append", "default": [], "metavar": "IFACE",
                                 "help": "capture what comes in there for elsewhere too: containers (docker0), other "
                                         "computers; repeatable, a * at the end stands for any rest"}),
    "ports": (("--ports",), {"type": ports, "required": True, "metavar": "PORT,...",
                             "help": "the TCP ports to lead there"}),
    "to_server": (("--to",), {"type": address, "required": True, "metavar": "HOST:PORT",
                              "help": "where the server listens, on this computer"}),
    "fail": (("--fail",), {"choices": ("open", "closed"), "default": "open",
                           "help": "without the server connections go on as before (the default), or are refused"}),
    "lan": (("--lan",), {"action": "store_true", "help": "private networks as well"}),
    "verbose": (("-v", "--verbose"), {"action": "store_true", "help": "say what happens, on standard error"}),
    "json": (("--json",), {"action": "store_true", "help": "for programs: one JSON object a line"}),
    "command": (("command",), {"nargs": argparse.REMAINDER, "metavar": "-- CMD ...", "help": "the command to run"}),
    "pid": (("--pid",), {"type": count, "metavar": "PID", "help": "a program that runs already"}),
    "url": (("url",), {"nargs": "?", "help": "the URL that would be asked for"}),
    "method": (("--method",), {"default": None, "help": "default: GET, or POST with a body"}),
    "header": (("--header", "-H"), {"action": "append", "default": [], "metavar": "HEADER",
                                   "help": "\"Name: value\"; repeatable"}),
    "body_file": (("--body-file",), {**_FILE, "help": "the body that would be sent"}),
    "app": (("--app",), {"metavar": "PATH", "help": "the executable that would ask"}),
    "asking_user": (("--user",), {"dest": "asking_user", "metavar": "USER", "help": "the user that asks, or a uid"}),
    "parent": (("--parent",), {"action": "append", "default": [], "metavar": "PATH",
                               "help": "the executable of its parent; repeated: of that one's, and so on"}),
    "service": (("--service",), {"metavar": "UNIT", "help": "of this systemd unit"}),
    "container": (("--container",), {"metavar": "NAME", "help": "of this container, as docker:ID"}),
    "source": (("--source",), {"metavar": "URL", "help": "the page that the request comes from"}),
    "type": (("--type",), {"metavar": "TYPE", "help": "of resource: document, script, image, xmlhttprequest ..."}),
    "requests": (("--requests",), {**_FILE, "help": "many requests: JSON lines with url, method, type ..."}),
    "paths": (("paths",), {"nargs": "+", "metavar": "FILE|DIR|-", "help": "what to scan; - is standard input"}),
    "fingerprint_what": (("what",), {"choices": ("values", "documents"), "help": "of what"}),
    "fingerprint_source": (("source",), {"metavar": "FILE|DIR|-", "help": "the CSV file, or the folder of documents"}),
    "column": (("--column",), {"metavar": "NAME,...", "help": "values: the columns, as the first line names them"}),
    "delimiter": (("--delimiter",), {"metavar": "CHAR", "help": "values: between columns; default: what the first "
                                                                "line has most of"}),
    "alone": (("--alone",), {"action": "store_true", "help": "values: nothing on which belong to one row; a smaller "
                                                             "index, and no `require`"}),
    "salt_file": (("--salt-file",), {**_FILE, "help": "values: the salt is in this file and not in the index; made if "
                                                      "it is not there"}),
    "ignore": (("--ignore",), {"action": "append", "default": [], "metavar": "DIR",
                               "help": "documents: what stands in these, too, is not protected; repeatable"}),
    "common": (("--common",), {"type": count, "default": 10, "metavar": "N",
                               "help": "documents: nor is what stands in so many of them; default: 10"}),
    "canary_action": (("action",), {"choices": ("new",), "help": "make one"}),
    "canary_kind": (("--kind",), {"choices": ("aws", "token", "email", "host", "url"), "default": "aws",
                                  "help": "what it looks like; default: aws"}),
    "canary_domain": (("--domain",), {"default": "example.com", "metavar": "NAME",
                                      "help": "email, host, url: a domain of yours"}),
    "follow": (("--follow", "-f"), {"action": "store_true", "help": "go on with new ones"}),
    "since": (("--since",), {"metavar": "TIME", "help": "not older than this: 90s, 10m, 2h, 3d or an ISO time"}),
    "host": (("--host",), {"help": "of this host and the names below it"}),
    "only_app": (("--app",), {"metavar": "TEXT", "help": "of this program: path or file name"}),
    "only_tree": (("--tree",), {"metavar": "TEXT", "help": "of this program and what it started: path or file name"}),
    "by_user": (("--user",), {"metavar": "USER", "help": "of this user, or uid"}),
    "verdict": (("--verdict",), {"choices": ("pass", "allow", "alert", "redact", "block", "kill", "bypass"),
                                 "help": "with this verdict"}),
    "filter": (("--filter",), {"metavar": "ID", "help": "decided by this filter"}),
    "incident": (("--incident",), {"metavar": "ID", "help": "the one that a block page names"}),
    "limit": (("--limit",), {"type": count, "metavar": "N", "help": "the newest N"}),
    "watch": (("--watch", "-w"), {"action": "store_true", "help": "again and again, until Ctrl-C or q"}),
    "history": (("--history",), {"action": "store_true", "help": "those that were, the newest first"}),
    "sort": (("--sort",), {"choices": ("app", "pid", "user", "proto", "local", "remote", "host", "state", "sent",
                                       "received", "verdict", "age"), "help": "by this column; default: app"}),
    "port": (("--port",), {"type": port, "metavar": "N", "help": "with this port at either end"}),
    "in_state": (("--in-state",), {"metavar": "STATE", "help": "in a state that begins so: estab, close-wait ..."}),
    "row_verdict": (("--verdict",), {"choices": ("inspect", "bypass", "alert", "block", "kill", "none"),
                                     "help": "with this verdict; none: not captured"}),
    "of_user": (("--user",), {"dest": "of_user", "metavar": "NAME", "help": "of this user"}),
    "listening": (("--listening", "-l"), {"action": "store_true", "help": "what waits for connections instead"}),
    "all_rows": (("--all", "-a"), {"dest": "every", "action": "store_true",
                                   "help": "also what waits, what the kernel keeps for a while, the proxy's own"}),
    "ca_action": (("action",), {"choices": ("create", "show", "export", "install", "verify", "uninstall"),
                                "help": "what to do with the root certificate"}),
    "service_action": (("action",), {"choices": ("install", "status", "uninstall"), "help": "what to do"}),
    "lists_action": (("action",), {"nargs": "?", "choices": ("show", "update"), "default": "show",
                                   "help": "what to do; show is the default"}),
    "force": (("--force",), {"action": "store_true", "help": "take a list that is much smaller than before"}),
    "pins_action": (("action",), {"nargs": "?", "choices": ("list", "add", "revoke"), "default": "list",
                                  "help": "what to do; list is the default"}),
    "pin_app": (("app",), {"nargs": "?", "metavar": "PROGRAM", "help": "the path of its executable"}),
    "pin_host": (("host",), {"nargs": "?", "metavar": "HOST", "help": "the host that it pins"}),
    "lifetime": (("--for",), {"dest": "lifetime", "metavar": "TIME", "help": "90m, 12h, 7d; default: 7d"}),
    "every": (("--all",), {"action": "store_true", "help": "every pin"}),
    "stores": (("--stores",), {"metavar": "NAMES", "help": "system, nss; default: all that are here"}),
    "form": (("--form",), {"choices": ("pem", "der"), "default": "pem", "help": "of the exported certificate"}),
    "out": (("--out",), {**_FILE, "help": "the file to write"}),
    "yes": (("--yes",), {"action": "store_true", "help": "do not ask"}),
    "dry_run": (("--dry-run",), {"action": "store_true", "help": "show the plan, change nothing"}),
}
