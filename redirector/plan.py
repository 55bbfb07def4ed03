"""What is captured, and the contract of everything that captures."""
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import ClassVar, Literal, Protocol, get_args

#: More ports than this are a mistake; the kernel would take them, the control channel's line would not.
MAX_PORTS = 64
#: Users whose QUIC is let go; with MAX_PORTS and MAX_SCOPE they still fit one line of the control channel.
MAX_USERS = 32
#: A longer path would not leave room for the rest of `Start` in one line of the control channel.
MAX_SCOPE = 1024
#: uid_t is 32 bits wide and its last value means "no such user" (chown(2)).
MAX_UID = 2**32 - 2
NO_UID = MAX_UID + 1
#: Left alone unless `lan` is set: RFC 1122 3.2.1.3, RFC 1918, 6598, 3927, 5771; RFC 4193, RFC 4291 2.5.6 and 2.7.
LAN = tuple(map(ip_network, (
    "0.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "224.0.0.0/4",
    "fc00::/7", "fe80::/10", "ff00::/8")))
#: Interfaces whose forwarded traffic is captured, each with a name of at most 15 bytes (IFNAMSIZ, netdevice(7)).
MAX_INTERFACES = 64
#: Names as one would type them; a star at the end stands for any rest, as in nft(8).
_INTERFACE = re.compile(r"(?!lo$)[A-Za-z0-9_.:@-]{1,15}|[A-Za-z0-9_.:@-]{1,14}\*")
#: nft reads the path between double quotes and has no escapes.
_CGROUP_PATH = re.compile(r"(/[^/\"\\\x00-\x1f\x7f]+)+")

#: An address and a port.
Endpoint = tuple[str, int]
Quic = Literal["reject", "allow"]
Fail = Literal["open", "closed"]
Existing = Literal["report", "cut"]
EncryptedDns = Literal["allow", "refuse"]
BackendName = Literal["nftables", "divert", "hook"]
_CHOICES = {"backend": get_args(BackendName), "quic": get_args(Quic), "fail": get_args(Fail),
            "existing": get_args(Existing), "encrypted_dns": get_args(EncryptedDns)}


class BackendError(ValueError):
    """Capture is not possible here; the text says what to do about it."""


def is_int(value: object, low: int, high: int) -> bool:
    """True for an integer from `low` to `high`, both included; booleans are not integers here."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class Scope:
    """Whose connections: a user's, a control group's (as `/proc/PID/cgroup` names it behind `0::`), or everybody's."""

    uid: int | None = None
    cgroup: str | None = None

    def __post_init__(self) -> None:
        require(self.uid is None or self.cgroup is None, "scope: give a uid or a cgroup, not both")
        require(self.uid is None or is_int(self.uid, 0, MAX_UID), f"scope.uid: not a user id: {self.uid!r}")
        require(self.cgroup is None or _is_cgroup(self.cgroup), f"scope.cgroup: not a plain path: {self.cgroup!r}")

    @property
    def everything(self) -> bool:
        return self.uid is None and self.cgroup is None


def _is_cgroup(path: object) -> bool:
    return (isinstance(path, str) and len(path.encode()) <= MAX_SCOPE and bool(_CGROUP_PATH.fullmatch(path))
            and not {".", ".."} & set(path.split("/")))


@dataclass(frozen=True)
class Plan:
    """What to divert, and where to.

    `ports` are the TCP ports captured, `listen_port` is the proxy's, on loopback. `exempt_uid` is the user that the
    proxy runs as; it may be None only for a scope that does not contain the proxy. `quic` decides UDP 443, `fail` what
    happens without a proxy, `existing` what happens to connections older than the rules. `loopback` and `lan` capture
    those destinations too. `backend` says by which technique. `quic_users` are those whose UDP 443 is let go even so,
    `encrypted_dns` decides DNS over TLS and QUIC (port 853). `forward` are the interfaces (a star at the end for
    any rest of the name) behind which others are whose connections through this computer are captured as well.
    `exempt_ports`, first and last, are local ports that the proxy makes its own connections from, and `exempt_pid` the
    process that alone may bind them (`divert`).
    `hook` needs no `exempt_uid`: what it captures is the command that it was put on.

    `own_server` is for any server in the proxy's place: whatever process listens there is exempt, and its children;
    `families` are the versions of IP that it serves, at `listen_host` where that is not loopback.
    """

    ports: tuple[int, ...]
    listen_port: int
    exempt_uid: int | None = None
    scope: Scope = field(default_factory=Scope)
    quic: Quic = "reject"
    fail: Fail = "closed"
    loopback: bool = False
    lan: bool = False
    existing: Existing = "report"
    backend: BackendName = "nftables"
    forward: tuple[str, ...] = ()
    own_server: bool = False
    families: tuple[int, ...] = (4, 6)
    listen_host: str = ""
    quic_users: tuple[int, ...] = ()
    encrypted_dns: EncryptedDns = "allow"
    exempt_ports: tuple[int, int] | None = None
    exempt_pid: int | None = None

    def __post_init__(self) -> None:
        require(isinstance(self.ports, tuple) and 0 < len(self.ports) <= MAX_PORTS, f"ports: 1 to {MAX_PORTS} of them")
        require(all(is_int(port, 1, 65535) for port in self.ports), f"ports: each from 1 to 65535: {self.ports!r}")
        require(is_int(self.listen_port, 1, 65535), f"listen_port: from 1 to 65535: {self.listen_port!r}")
        require(self.listen_port not in self.ports, f"listen_port: {self.listen_port} is itself captured: a loop")
        require(isinstance(self.scope, Scope), f"scope: not a scope: {self.scope!r}")
        for name, allowed in _CHOICES.items():
            require(getattr(self, name) in allowed, f"{name}: {' or '.join(allowed)}, not {getattr(self, name)!r}")
        for name in ("loopback", "lan", "own_server"):
            require(isinstance(getattr(self, name), bool), f"{name}: true or false, not {getattr(self, name)!r}")
        require(isinstance(self.forward, tuple) and len(self.forward) <= MAX_INTERFACES
                and all(isinstance(name, str) and _INTERFACE.fullmatch(name) for name in self.forward),
                f"forward: names of interfaces, at most {MAX_INTERFACES}: {self.forward!r}")
        require(isinstance(self.families, tuple) and self.families in ((4,), (6,), (4, 6)),
                f"families: 4, 6 or both: {self.families!r}")
        require(self.listen_host == "" or self.families == (ip_address(self.listen_host).version,),
                f"listen_host: an address of the one family: {self.listen_host!r}")
        require(isinstance(self.quic_users, tuple) and len(self.quic_users) <= MAX_USERS
                and all(is_int(uid, 0, MAX_UID) for uid in self.quic_users),
                f"quic_users: at most {MAX_USERS} user ids: {self.quic_users!r}")
        self._check_exemption()

    def _check_exemption(self) -> None:
        if self.exempt_uid is None:
            require(self.own_server or not self.scope.everything or self.backend == "hook",
                    "exempt_uid: needed when everything is captured, the proxy would be too")
        else:
            require(is_int(self.exempt_uid, 0, MAX_UID), f"exempt_uid: not a user id: {self.exempt_uid!r}")
            require(self.exempt_uid != self.scope.uid, "exempt_uid: is the captured user, so nothing would be captured")
        require(self.backend != "divert" or self.exempt_ports is not None, "exempt_ports: needed for divert")
        match self.exempt_ports:
            case None:
                pass
            case (first, last):
                require(is_int(first, 1024, 65535) and is_int(last, first, 65535), "exempt_ports: not first and last")
                require(not first <= self.listen_port <= last, "exempt_ports: the proxy listens on one of them")
            case _:
                raise ValueError("exempt_ports: not first and last")
        require(self.exempt_pid is None or is_int(self.exempt_pid, 1, 2**31), "exempt_pid: not a process id")


@dataclass(frozen=True)
class Connection:
    """One end of a TCP connection; `client` is the local address. `inode` is 0 when no process holds it any more,
    `uid` then NO_UID where the kernel has forgotten whose it was."""

    client: Endpoint
    server: Endpoint
    uid: int
    inode: int
    cgroup: int
    ident: tuple[int, bytes] = field(repr=False)    # family and socket id as the kernel gave them, cookie included


@dataclass(frozen=True)
class Declaration:
    """What a backend can do. The contract suite (tests/contract) holds it to that, and the docs' table shows both.

    `rights` says what it needs and `systems` where it runs. `everything`: the whole computer; `users`, `groups` and
    `trees`: the connections of one user, control group, or process with its children. `processes`: it knows the pid of
    a connection also when the process has ended. `udp`: QUIC is refused; `existing`: connections older than it are
    counted, go on or are cut; `forwarded`: what other computers and containers send through this one; `closed`: without
    a proxy nothing passes; `open`: without one all goes on untouched.

    `transparent`: programs that know nothing of it are captured; `local`: loopback and LAN are, when asked for, `lan`:
    the LAN alone;
    `peername`: the program's socket has the origin as its peer; `refusals`: where the origin cannot be had, the
    program's connect() fails as it would without us. Without that it succeeds, and the connection is then reset;
    `dns`: DNS over TLS and QUIC is refused when asked, and users may be let use QUIC; `servers`: any server can
    stand in the proxy's place.
    """

    name: BackendName | Literal["explicit"]
    rights: str
    systems: tuple[str, ...]
    ipv6: bool = False
    udp: bool = False
    everything: bool = False
    users: bool = False
    groups: bool = False
    trees: bool = False
    processes: bool = False
    existing: bool = False
    forwarded: bool = False
    closed: bool = False
    open: bool = False
    transparent: bool = False
    local: bool = False
    lan: bool = False
    peername: bool = False
    refusals: bool = False
    dns: bool = False
    servers: bool = False


#: A plan's wishes in words, by the field of the Declaration that they need.
_WISHES = {"users": "one user's connections", "groups": "one control group's connections", "local": "loopback or LAN",
           "forwarded": "what is forwarded", "existing": "cutting older connections", "closed": "fail: closed",
           "open": "fail: open", "servers": "a server of anybody's",
           "dns": "refusing encrypted DNS, or QUIC for single users (`encrypted_dns`, `quic_users`)"}


def beyond(plan: Plan, offered: Declaration) -> list[str]:
    """What `plan` asks for and the backend does not offer, in words. It is to be refused, never ignored."""
    wished = {"users": plan.scope.uid is not None, "groups": plan.scope.cgroup is not None,
              "local": plan.loopback or (plan.lan and not offered.lan), "forwarded": bool(plan.forward),
              "existing": plan.existing == "cut",
              "closed": plan.fail == "closed", "open": plan.fail == "open",
              "dns": plan.encrypted_dns == "refuse" or bool(plan.quic_users), "servers": plan.own_server}
    return [_WISHES[name] for name, wish in wished.items() if wish and not getattr(offered, name)]


class Backend(Protocol):
    """One way to divert connections. `remove` may be called twice, before `install`, and after a failed one."""

    declaration: ClassVar[Declaration]

    def install(self, plan: Plan, existing: Collection[Connection]) -> None:
        """Divert what `plan` names, from the next connection on. `existing` ones go on or not, as the plan says.

        Raises BackendError, and then leaves nothing behind.
        """

    def remove(self) -> None: ...
