"""The control channel between proxy and redirector: one JSON object a line. No I/O here.

First comes Start, from the launcher. The proxy sends a Heartbeat every HEARTBEAT_INTERVAL, Lookup when it wants to know
whose connection it has, and Stop at an orderly end. The redirector answers Ready or Failed, each Heartbeat with a
Heartbeat (so that a stopped redirector is noticed) and each Lookup with an Owner. Everything a peer sends is checked;
what is not understood is a ProtocolError, and the rules go.
"""
import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from redirector.plan import NO_UID, Endpoint, Plan, Scope, is_int, require

VERSION = 1
#: Bytes in a line, its end included. The longest message, an Owner at the limits below, stays under it.
MAX_LINE = 16_384
#: Seconds between two heartbeats of the proxy, and the silence after which it counts as hung.
HEARTBEAT_INTERVAL, HEARTBEAT_LIMIT = 0.2, 1.0
#: Bytes of the longer texts, see MAX_LINE; JSON may double them (quotes, backslashes).
MAX_EXE, MAX_CMDLINE, MAX_CGROUP, MAX_USER, MAX_REASON = 800, 400, 300, 64, 1000
#: Ancestors, and bytes of all their executables: those of a deep tree of long paths are pids alone at its far end.
MAX_PARENTS, MAX_ANCESTRY = 16, 2400
#: Bytes of a thread's name: the kernel has 15, and three of ours stand for one that is no text.
MAX_NAME = 48
#: The namespaces by which a process may see another system than we.
NAMESPACES = ("mnt", "pid", "user")
#: Names a table and a file, so: short, and nothing that either would read as its own syntax.
_INSTANCE = re.compile(r"[a-z][a-z0-9_]{0,31}")


class ProtocolError(ValueError):
    """The peer sent what it must not."""


def _check_endpoint(name: str, value: Endpoint) -> None:
    require(isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str) and is_int(value[1], 0, 65535),
            f"{name}: not an address and a port: {value!r}")
    _address(value[0])


#: Of one client the same few come again and again.
_address = lru_cache(1024)(ipaddress.ip_address)


def _check_text(name: str, value: object, limit: int) -> None:
    require(isinstance(value, str) and len(value.encode()) <= limit, f"{name}: not a text of at most {limit} bytes")


@dataclass(frozen=True)
class Start:
    """Install `plan`, or without one install nothing and answer look-ups alone.

    Records of what runs go to `run_dir`, an absolute path that only root may write to.
    """

    instance: str
    run_dir: str
    plan: Plan | None
    version: int = VERSION

    def __post_init__(self) -> None:
        require(self.version == VERSION, f"version: this redirector speaks {VERSION}, not {self.version!r}")
        require(isinstance(self.instance, str) and bool(_INSTANCE.fullmatch(self.instance)),
                f"instance: a letter, then at most 31 of a-z 0-9 _: {self.instance!r}")
        _check_text("run_dir", self.run_dir, MAX_EXE)
        path = PurePosixPath(self.run_dir)
        require(path.is_absolute() and ".." not in path.parts and "\0" not in self.run_dir,
                f"run_dir: not a plain absolute path: {self.run_dir!r}")
        require(self.plan is None or isinstance(self.plan, Plan), "plan: not a plan")


@dataclass(frozen=True)
class Ready:
    """The rules are in place. `existing` connections were open before them, and were ended if `cut`."""

    backend: str
    existing: int
    cut: bool

    def __post_init__(self) -> None:
        _check_text("backend", self.backend, MAX_USER)
        require(is_int(self.existing, 0, 2**31), "existing: not a count")
        require(isinstance(self.cut, bool), "cut: not true or false")


@dataclass(frozen=True)
class Failed:
    """The rules are not in place, or no longer; `reason` says what to do."""

    reason: str

    def __post_init__(self) -> None:
        _check_text("reason", self.reason, MAX_REASON)


@dataclass(frozen=True)
class Heartbeat:
    """The sender is alive."""


@dataclass(frozen=True)
class Stop:
    """An orderly end: remove everything, the guard too."""


@dataclass(frozen=True)
class Lookup:
    """Which process opened the connection from `client` to `server`? For a diverted one: the original destination."""

    id: int
    client: Endpoint
    server: Endpoint

    def __post_init__(self) -> None:
        require(is_int(self.id, 0, 2**53), "id: not a number")
        _check_endpoint("client", self.client)
        _check_endpoint("server", self.server)


class Parent(NamedTuple):
    """An ancestor; `exe` is empty where it could not be read or had no room."""

    pid: int
    exe: str = ""


@dataclass(frozen=True)
class Process:
    """The owner of a socket. Of one that had `ended` before the look-up, the socket itself tells user, control group
    and unit; the pid is None where nobody noted it, `uid` NO_UID where nobody knows.

    `started` is in seconds since the epoch, `name` what the thread that connected called itself, `namespaces` those of
    NAMESPACES that are not ours; `parents` are its ancestors, the nearest first; texts are cut at the limits above.
    """

    uid: int
    user: str
    pid: int | None = None
    exe: str = ""
    cmdline: tuple[str, ...] = ()
    parents: tuple[Parent, ...] = ()
    started: float = 0.0
    cgroup: str = ""
    ended: bool = False
    name: str = ""
    service: str = ""
    container: str = ""
    namespaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require(is_int(self.uid, 0, NO_UID), "uid: not a user id")
        require(self.pid is None or is_int(self.pid, 1, 2**31), "pid: not a process id")
        for name, limit in {"user": MAX_USER, "exe": MAX_EXE, "cgroup": MAX_CGROUP, "service": MAX_CGROUP,
                            "container": MAX_CGROUP, "name": MAX_NAME}.items():
            _check_text(name, getattr(self, name), limit)
        require(isinstance(self.cmdline, tuple) and all(isinstance(word, str) for word in self.cmdline),
                "cmdline: not a list of texts")
        require(sum(len(word.encode()) + 1 for word in self.cmdline) <= MAX_CMDLINE, "cmdline: too long")
        require(isinstance(self.parents, tuple) and len(self.parents) <= MAX_PARENTS
                and all(isinstance(parent, Parent) and is_int(parent.pid, 0, 2**31) and isinstance(parent.exe, str)
                        for parent in self.parents), "parents: not a list of processes")
        require(sum(len(parent.exe.encode()) for parent in self.parents) <= MAX_ANCESTRY, "parents: too long")
        require(isinstance(self.namespaces, tuple) and set(self.namespaces) <= set(NAMESPACES),
                "namespaces: not names of such")
        require(isinstance(self.started, float) and 0 <= self.started < 2**40, "started: not a time")
        require(isinstance(self.ended, bool), "ended: not true or false")


@dataclass(frozen=True)
class Owner:
    """The answer to the Lookup of the same `id`; `process` is None when there is no such socket.

    `server` is where the client wanted to go, where the proxy cannot learn that from its own end of the connection.
    """

    id: int
    process: Process | None
    server: Endpoint | None = None

    def __post_init__(self) -> None:
        require(is_int(self.id, 0, 2**53), "id: not a number")
        require(self.process is None or isinstance(self.process, Process), "process: not a process")
        if self.server is not None:
            _check_endpoint("server", self.server)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=vars)
Message = Start | Ready | Failed | Heartbeat | Stop | Lookup | Owner


def encode(message: Message) -> bytes:
    """One line. Raises ValueError where the peer's decoder would refuse it."""
    name = type(message).__name__.lower()
    line = _ENCODER.encode({"type": name, **vars(message)}).encode() + b"\n"
    require(len(line) <= MAX_LINE, f"{name}: {len(line)} bytes are more than a line may have")
    return line


def clip(text: str, limit: int) -> str:
    """At most `limit` bytes, and nothing that a terminal or a JSON line would take for more than text."""
    shown = text if text.isprintable() else "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown.encode()[:limit].decode(errors="ignore")


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _start(fields: dict[str, Any]) -> Start:
    plan = fields.pop("plan")
    if plan is not None:
        plan = Plan(**_tuples(plan) | {"scope": Scope(**plan["scope"])})
    return Start(plan=plan, **fields)


def _owner(fields: dict[str, Any]) -> Owner:
    process = fields.pop("process")
    if process is not None:
        parents = {"parents": tuple(Parent(*parent) for parent in process.get("parents", ()))}
        process = Process(**_tuples(process) | parents)
    return Owner(process=process, **_tuples(fields))


_BUILD: dict[str, Callable[[dict[str, Any]], Message]] = {
    "start": _start,
    "ready": lambda fields: Ready(**fields),
    "failed": lambda fields: Failed(**fields),
    "heartbeat": lambda fields: Heartbeat(**fields),
    "stop": lambda fields: Stop(**fields),
    "lookup": lambda fields: Lookup(**_tuples(fields)),
    "owner": _owner,
}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    require(len(dict(pairs)) == len(pairs), "a key is given twice")
    return dict(pairs)


def decode(line: bytes) -> Message:
    """What `encode` made. Raises ProtocolError."""
    try:
        fields = json.loads(line.decode(), object_pairs_hook=_object)
        return _BUILD[fields.pop("type")](fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ProtocolError(f"not a message: {error} in {line[:200]!r}") from error


class Decoder:
    """Bytes in, messages out; holds at most one unfinished line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes. Raises ProtocolError; nothing may be fed after that."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if any(len(line) >= MAX_LINE for line in (*lines, self._rest)):
            raise ProtocolError(f"a line of more than {MAX_LINE} bytes")
        return [decode(line) for line in lines]
