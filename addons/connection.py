"""What is known of a connection before anything is dialled: the subject of the `connection` hook."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Parent(NamedTuple):
    """An ancestor of a process: its pid and its executable's path, empty where that is not known."""

    pid: int
    exe: str = ""


@dataclass(frozen=True, slots=True)
class Process:
    """The program at the client's end, the one that opened the connection; fields that could not be learnt are empty.

    `exe` is the path of its executable, `elsewhere:` before it where that is not the file that this computer has there
    (a container, a mount namespace).  `started` is in seconds since the epoch.  `parents` are its ancestors, nearest
    first, at most 16.  `service` is the systemd unit (`nginx.service`; `user@1000.service/firefox.service` is a user's
    own), `container` the outermost container (`docker:3f4e...`), `namespaces` those of mnt, pid and user that are not
    the computer's.  `ended` says that the process was gone before it could be looked at: then user, `cgroup`,
    `service` and `container` are its socket's, and the pid, if not 0, and the `name` (which any program chooses for
    itself) were noted as it connected; the rest is empty.
    """

    pid: int
    exe: str = ""
    cmdline: tuple[str, ...] = ()
    user: str = ""
    uid: int | None = None
    parents: tuple[Parent, ...] = ()
    cgroup: str = ""
    ended: bool = False
    name: str = ""
    started: float = 0.0
    service: str = ""
    container: str = ""
    namespaces: tuple[str, ...] = ()

    @property
    def tree(self) -> tuple[str, ...]:
        """The executables of the process and its ancestors, nearest first, as far as they are known."""
        return tuple(exe for exe in (self.exe, *(parent.exe for parent in self.parents)) if exe)


@dataclass(slots=True)
class Connection:
    """One connection of an application, by its ClientHello and its original destination.

    `host` is the server name it asks for (SNI, lower case, no trailing dot), `address` the numeric address and port
    that it dialled, `client` its own end, `alpn` the protocols offered, `ja3` and `ja4` the fingerprints of its hello.
    `unnamed`: it speaks TLS and its hello has no host name. `ech`: its hello has encrypted_client_hello (RFC 9849), so
    `host` may be only the outer name; browsers send one that hides nothing too, and nobody can tell them apart.
    """

    host: str | None
    address: tuple[str, int]
    client: tuple[str, int]
    process: Process | None = None
    tls: bool = True
    alpn: tuple[str, ...] = ()
    ja3: str | None = None
    ja4: str | None = None
    unnamed: bool = False
    ech: bool = False
    labels: set[str] = field(default_factory=set)
    #: Confidence of the labels that are not certain; see `addons.label`.
    doubts: dict[str, float] = field(default_factory=dict)
