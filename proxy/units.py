"""The service as systemd's units: each process with the rights that it needs, and no other (systemd.exec(5)).

    lockgate.service                launcher and worker: no capability, no other process, no home, nothing to write but
                                    their state; keys, policy and filters are here
    lockgate-redirector.socket      root's socket, on which they ask for a redirector
    lockgate-redirector@.service    one for each connection: the kernel's rules, and whose connection it is
    lockgate-recorder.service       the history of connections; it changes nothing else, and nothing depends on it
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SERVICE, SOCKET, REDIRECTOR = "lockgate.service", "lockgate-redirector.socket", "lockgate-redirector@.service"
RECORDER = "lockgate-recorder.service"
RUN_DIR = "/run/lockgate"
STATE = Path("/var/lib/lockgate/state")
#: What the redirector needs, and for what: rules in nf_tables and the end of connections; other users' executables and
#: open files in /proc, by which a connection gets its process; the program in the kernel that notes who connects, also
#: those that have ended, and what they call themselves.
CAPABILITIES = ("CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_BPF", "CAP_PERFMON")
#: What the recorder needs: the same to see who holds a socket and when it ends; and, to ask the proxy in its state
#: folder, the right to write where others may not. No other folder is writable to it.
RECORDING = (*CAPABILITIES, "CAP_DAC_OVERRIDE")
#: What the service does not see of these folders; code that lies there is shown to it alone.
HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108  # named, not used
#: Seconds without a sign of life from the launcher, which gives one a second.
WATCHDOG = 30

HEAD = "# Made by `lockgate service install`, removed by `uninstall`; `systemctl edit` makes a drop-in for changes.\n"
#: Both: nothing of the system may be changed, and no rights gained.
SANDBOX = {
    "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectKernelTunables": "yes", "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes", "ProtectControlGroups": "yes", "ProtectClock": "yes", "ProtectHostname": "yes",
    "RestrictNamespaces": "yes", "RestrictRealtime": "yes", "RestrictSUIDSGID": "yes", "LockPersonality": "yes",
    "SystemCallArchitectures": "native", "KeyringMode": "private",
    "PrivateDevices": "yes", "UMask": "0077",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What the units are made from; paths are absolute.  `code` has to be seen by the service."""

    python: Path
    policy: Path | None
    code: Sequence[Path]
    user: str = "lockgate"
    closed: bool = True         # `capture.fail`

    def command(self, module: str, *words: str) -> str:
        return line([str(self.python), "-I", "-m", module, *words])

    def serving(self, action: str) -> str:
        return self.command("proxy.serving", action, *(["--policy", str(self.policy)] if self.policy else []))


def units(setting: Setting) -> dict[str, str]:
    """File name -> text."""
    return {SERVICE: _service(setting), SOCKET: _socket(setting), REDIRECTOR: _redirector(setting),
            RECORDER: _recorder(setting)}


def line(words: Iterable[str]) -> str:
    """A command line: quoted, with nothing in it that systemd would expand (systemd.service(5), COMMAND LINES)."""
    return " ".join(shlex.quote(word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$")) for word in words)


def _service(setting: Setting) -> str:
    shown = dict.fromkeys(path for path in setting.code if any(folder in (path, *path.parents) for folder in HIDDEN))
    boot = "network-pre.target" if setting.closed else ""
    return _text({
        "Unit": {"Description": "lockgate, which inspects what applications send and receive over TLS",
                 "Requires": SOCKET, "After": SOCKET, "Wants": f"{RECORDER} {boot}".rstrip(), "Before": boot,
                 "StartLimitIntervalSec": "0"},
        "Service": {
            "Type": "notify", "NotifyAccess": "main", "User": setting.user, "Group": setting.user,
            "ExecStartPre": "+" + setting.serving("plan"), "ExecStart": setting.serving("run"),
            "ExecReload": "kill -HUP $MAINPID", "ExecStopPost": "+" + setting.command("proxy.serving", "stopped"),
            "Restart": "always", "RestartSec": "1", "WatchdogSec": str(WATCHDOG), "TimeoutStartSec": "90",
            "TimeoutStopSec": "30", "KillMode": "mixed", "StateDirectory": "lockgate/state",
            "StateDirectoryMode": "0700", "CapabilityBoundingSet": "", "AmbientCapabilities": "", **SANDBOX,
            "ProtectHome": "tmpfs", "PrivateTmp": "yes", "ProtectProc": "invisible", "RemoveIPC": "yes",
            "BindReadOnlyPaths": " ".join(map(_path, shown)), "LimitNOFILE": "20256",
            "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",      # the last is glibc's, for names
            "SystemCallFilter": "@system-service", "SystemCallErrorNumber": "EPERM"},
        "Install": {"WantedBy": "multi-user.target"}})


def _socket(setting: Setting) -> str:
    return _text({
        "Unit": {"Description": "Where lockgate asks for its redirector"},
        "Socket": {"ListenStream": f"{RUN_DIR}/redirector.sock", "Accept": "yes", "MaxConnections": "8",
                   "SocketUser": "root", "SocketGroup": setting.user, "SocketMode": "0660", "DirectoryMode": "0755",
                   "RemoveOnStop": "yes"}})


def _redirector(setting: Setting) -> str:
    """`KillMode=process`: the guard of `fail: closed` is its child, and must outlive it."""
    return _text({
        "Unit": {"Description": "lockgate's rules in the kernel", "CollectMode": "inactive-or-failed"},
        "Service": {
            "ExecStart": setting.command("redirector.activated", f"{RUN_DIR}/start.json"),
            "StandardInput": "socket", "StandardOutput": "socket", "StandardError": "journal", "KillMode": "process",
            "CapabilityBoundingSet": " ".join(CAPABILITIES), **SANDBOX, "ProtectHome": "read-only",
            "MemoryDenyWriteExecute": "yes",    # not the proxy: libffi makes OpenSSL's verify callback at run time
            "ReadWritePaths": RUN_DIR, "RestrictAddressFamilies": "AF_UNIX AF_NETLINK",
            "SystemCallFilter": "@system-service bpf", "SystemCallErrorNumber": "EPERM"}})


def _recorder(setting: Setting) -> str:
    return _text({
        "Unit": {"Description": "lockgate's history of connections", "PartOf": SERVICE, "After": SERVICE},
        "Service": {
            "ExecStart": setting.serving("record"), "Restart": "on-failure", "RestartSec": "5",
            "RestartPreventExitStatus": "2",    # the policy is wrong, and stays so
            "CapabilityBoundingSet": " ".join(RECORDING), **SANDBOX, "ProtectHome": "read-only",
            "MemoryDenyWriteExecute": "yes", "ReadWritePaths": str(STATE.parent),
            "RestrictAddressFamilies": "AF_UNIX AF_NETLINK", "SystemCallFilter": "@system-service bpf",
            "SystemCallErrorNumber": "EPERM"}})


def _path(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _text(sections: Mapping[str, Mapping[str, str]]) -> str:
    return HEAD + "".join(f"\n[{name}]\n" + "".join(f"{key}={value}\n" for key, value in settings.items())
                          for name, settings in sections.items())
