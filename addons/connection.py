"""What is known of a connection before anything is dialled: the subject of the `connection` hook."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Process:
    """The program at the client's end; fields that could not be learnt are empty.

    `parents` are the executables of its ancestors, nearest first.  `ended` says that the process was gone before it
    could be looked at, so that only the pid is sure.
    """

    pid: int
    exe: str = ""
    cmdline: tuple[str, ...] = ()
    user: str = ""
    uid: int | None = None
    parents: tuple[str, ...] = ()
    cgroup: str = ""
    ended: bool = False


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
