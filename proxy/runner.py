"""`lockgate run -- CMD`: one command and its children under inspection; trust and capture for it alone, undone after.

As root: a control group of its own, whose connections the kernel diverts, and a mount namespace in which the system
trusts our root; the command itself runs as the user who called.  Otherwise `hook`, by which its connections are
redirected as well, and trust variables; where that cannot be had, proxy variables, which programs may honour.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from certs.user import User, invoking
from proxy import ports
from proxy.launcher import Launch, Launcher
from proxy.options import uid_of
from proxy.trust import Trust
from redirector import backends, cgroups, release, trial
from redirector.keeper import Keeper
from redirector.plan import BackendName, Plan, Scope

if TYPE_CHECKING:
    from proxy.schema import Capture

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "brave-browser", "microsoft-edge",
            "vivaldi", "vivaldi-stable")
FIREFOX = ("firefox", "firefox-esr", "thunderbird")
#: Browsers hand a new window to a running instance, which is not ours to inspect: they get a profile of their own.
PROFILES = dict.fromkeys(CHROMIUM, ("--user-data-dir={}",)) | dict.fromkeys(FIREFOX, ("--no-remote", "--profile", "{}"))
#: Words by which a command names a profile itself.
NAMED = ("--user-data-dir", "--profile", "-profile", "-P")
#: For programs that read them; upper and lower case both have their readers.
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
LOCAL = "localhost,127.0.0.1,::1"
#: Control groups of runs: the rest of the name is the launcher's pid.
GROUP = "lockgate-"
#: Signals that ask to end: they are the command's, once there is one.
ENDING = (signal.SIGTERM, signal.SIGHUP)
#: Seconds for what the command left running to end, once killed.
KILL_LIMIT = 2.0

type Tell = Callable[[str], None]
type Wanted = backends.Capture | Literal["auto"]


def run(launch: Launch, capture: "Capture", command: list[str], tell: Tell,
        how: Wanted = "auto") -> int:
    """Run the command under inspection and return its exit code (128 and the signal's number where one ended it).

    `how` is a backend's name, or `auto`.  Raises OSError or ValueError for what stands in the way.
    """
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]}: no such program")
    for number in ENDING:       # tidy up, also before the command is there to have them
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    user, chosen = invoking(), choose(how, tell)
    with tempfile.TemporaryDirectory(prefix="lockgate-run-", ignore_cleanup_errors=True) as name:
        trust = Trust(Path(name), user)
        command = own_profile(command, trust.own / "profile", tell)
        if chosen in ("nftables", "divert"):
            return _captured(launch, capture, command, trust, tell, "divert" if chosen == "divert" else "nftables")
        if chosen == "hook":
            return _hooked(launch, capture, command, trust, tell)
        return _through_variables(launch, command, trust, tell)


def choose(asked: Wanted, tell: Tell) -> str:
    """By which backend; without root it is told why.  Raises ValueError for one that cannot be had."""
    if asked == "hook":
        if why := trial.obstacle():
            raise ValueError(f"--capture hook: {why}")
        return "hook"
    if asked != "auto" or os.geteuid() == 0:
        return backends.choose(asked)[0]
    if (why := trial.obstacle()) is None:
        tell("capture by hook: what this command and its children connect to is redirected (nftables needs root)")
        return "hook"
    tell(f"capture by proxy variables alone: {why} (nftables needs root)")
    return "explicit"


def own_profile(command: list[str], profile: Path, tell: Tell) -> list[str]:
    """Give a browser a profile of its own, unless the command names one."""
    option = PROFILES.get(Path(command[0]).name) or PROFILES.get(Path(shutil.which(command[0]) or "").resolve().name)
    if option is None or any(word.startswith(NAMED) for word in command[1:]):
        return command
    tell(f"{Path(command[0]).name} gets a profile of its own: in a running one, its window would escape inspection")
    return [command[0], *(word.format(profile) for word in option), *command[1:]]


def _captured(launch: Launch, capture: "Capture", command: list[str], trust: Trust, tell: Tell,
              backend: BackendName) -> int:
    if backend == "divert":
        ports.reflect(launch)
    with _group() as group, _serving(launch, lambda port, _: Plan(
            capture.ports, port, None, Scope(cgroup=f"/{group.name}"), capture.quic, capture.fail, capture.loopback,
            capture.lan, "report", backend, exempt_ports=launch.ports, encrypted_dns=capture.encrypted_dns,
            quic_users=tuple(map(uid_of, capture.quic_users)))) as launcher:
        _trust(launcher, trust)
        user = trust.user
        environment = {key: value for key, value in os.environ.items() if key not in PROXY_VARIABLES}
        environment = trust.variables(environment) | account(user)
        with trust.databases(tell) as databases:

            def become() -> None:
                (group / "cgroup.procs").write_text(str(os.getpid()))
                trust.enter(databases)
                _become(user)

            try:
                return _attend(command, environment, launcher, tell, become)
            finally:
                _end(group)


def _become(user: User) -> None:
    """In a child before exec, as root."""
    if user.uid != 0:
        os.initgroups(pwd.getpwuid(user.uid).pw_name, user.gid)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)


def _hooked(launch: Launch, capture: "Capture", command: list[str], trust: Trust, tell: Tell) -> int:
    """By seccomp: needs no rights; has root's kind of trust where root starts it."""
    if capture.fail == "open":
        tell("`capture.fail: open` does not hold here: without the proxy this command cannot connect")
    root = os.geteuid() == 0
    if not root:
        _warn_browser(command, tell)
    with Keeper() as kept, contextlib.ExitStack() as given:
        launch.keeper, launch.asks = kept, True
        launcher = given.enter_context(_serving(launch, lambda port, _: Plan(
            capture.ports, port, None, Scope(), capture.quic, "closed", capture.loopback, capture.lan, "report",
            "hook", encrypted_dns=capture.encrypted_dns, quic_users=tuple(map(uid_of, capture.quic_users)))))
        _trust(launcher, trust)
        environment = {key: value for key, value in os.environ.items() if key not in PROXY_VARIABLES}
        environment = trust.variables(environment) | (account(trust.user) if root else {})
        databases = given.enter_context(trust.databases(tell)) if root else {}

        def become() -> None:
            if root:
                trust.enter(databases)
                _become(trust.user)
            kept.filter()

        try:
            return _attend(command, environment, launcher, tell, become, kept)
        finally:
            kept.end(launcher.children())


def _trust(launcher: Launcher, trust: Trust) -> None:
    trust.root.write_bytes(launcher.root_certificate())
    trust.write(trust.root)


@contextlib.contextmanager
def _serving(launch: Launch, plan: Callable[[int, int | None], Plan]) -> Iterator[Launcher]:
    launch.instance, launch.plan = f"run_{os.getpid()}", plan
    launcher = Launcher(launch)
    try:
        launcher.start()
        yield launcher
    finally:
        launcher.stop()


def account(user: User) -> dict[str, str]:
    """What login(1) would set; sudo has left root's there."""
    if user.uid == os.geteuid():
        return {}
    entry = pwd.getpwuid(user.uid)
    return {"HOME": entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": entry.pw_shell}


@contextlib.contextmanager
def _group() -> Iterator[Path]:
    """A control group for the command; those of runs that were killed go."""
    mount = Path(cgroups.mount())
    for old in mount.glob(f"{GROUP}[0-9]*"):
        with contextlib.suppress(OSError, ValueError):      # its command still runs; or it is nobody's run
            if release.started(int(old.name.removeprefix(GROUP))) is None:
                old.rmdir()
    group = mount / f"{GROUP}{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()


def _end(group: Path) -> None:
    """What the command left running would go on without trust and capture: it ends with the command."""
    until = time.monotonic() + KILL_LIMIT
    with contextlib.suppress(OSError):
        while (group / "cgroup.procs").read_text() and time.monotonic() < until:
            (group / "cgroup.kill").write_text("1")     # Linux 5.14
            time.sleep(0.02)


def _through_variables(launch: Launch, command: list[str], trust: Trust, tell: Tell) -> int:
    _warn_browser(command, tell)
    launcher = Launcher(launch)
    try:
        ready = launcher.start().ready
        host, port = ready["listen"][0][:2]
        _trust(launcher, trust)
        environment = trust.variables(os.environ) | dict.fromkeys(PROXY_VARIABLES, f"http://{host}:{port}") | {
            "NO_PROXY": LOCAL, "no_proxy": LOCAL, "NODE_USE_ENV_PROXY": "1"}
        return _attend(command, environment, launcher, tell)
    finally:
        launcher.stop()


def _warn_browser(command: list[str], tell: Tell) -> None:
    if Path(command[0]).name in PROFILES:
        tell("without root, a browser trusts what its own database does: lockgate ca install --stores nss")


def _attend(command: list[str], environment: dict[str, str], launcher: Launcher, tell: Tell,
            become: Callable[[], None] | None = None, kept: Keeper | None = None) -> int:
    """Start the command and wait for it: it has the terminal and its signals.  A proxy that dies is replaced."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)      # not SIG_IGN, which the command would inherit
    early: list[int] = []
    for number in ENDING:
        signal.signal(number, lambda number, _: early.append(number))
    process = subprocess.Popen(command, env=environment, preexec_fn=become)
    if kept is not None:
        kept.serve()
    for number in ENDING:
        signal.signal(number, lambda number, _: process.send_signal(number))
    for each in early:          # came while the command was being started
        process.send_signal(each)

    def hear(message: dict[str, Any]) -> None:
        if message["type"] in ("restarting", "restart-failed", "reload-failed"):
            tell(f"{message['type']}: {message.get('reason') or message.get('errors')}")

    def ended() -> bool:
        if kept is not None:
            kept.reap(launcher.children() | {process.pid})
        return process.poll() is not None

    launcher.supervise(hear, ended)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode
