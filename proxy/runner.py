"""`lockgate run -- CMD`: one command and its children under inspection; trust and capture for it alone, undone after.

As root: a control group of its own, whose connections the kernel diverts, and a mount namespace in which the system
trusts our root; the command itself runs as the user who called.  Otherwise: proxy and trust variables, which reach the
programs that honour them.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.launcher import Launch, Launcher
from proxy.policy import Policy
from proxy.trust import Trust
from redirector import cgroups
from redirector.plan import Plan, Scope

#: Browsers that hand a new window to a running instance, which then is not ours to inspect: they get a profile of
#: their own, by this option.
PROFILES = {
    **dict.fromkeys(("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "brave-browser",
                     "microsoft-edge", "vivaldi"), "--user-data-dir={}"),
    **dict.fromkeys(("firefox", "firefox-esr", "thunderbird"), "--profile {} --no-remote"),
}
#: For programs that read them; upper and lower case both have their readers.
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
LOCAL = "localhost,127.0.0.1,::1"


@dataclass(frozen=True, slots=True)
class Invoker:
    """Who called, also through sudo (sudo(8): SUDO_UID, SUDO_GID)."""

    uid: int
    gid: int
    name: str
    home: Path

    @classmethod
    def find(cls) -> "Invoker":
        uid = int(os.environ.get("SUDO_UID", os.getuid())) if os.geteuid() == 0 else os.getuid()
        entry = pwd.getpwuid(uid)
        home = Path(entry.pw_dir) if "SUDO_UID" in os.environ else Path(os.environ.get("HOME", entry.pw_dir))
        return cls(uid, entry.pw_gid, entry.pw_name, home)


def own_profile(command: list[str], folder: Path, tell: Callable[[str], None]) -> list[str]:
    """Give a browser a profile of its own, unless the command names one."""
    option = PROFILES.get(Path(command[0]).name)
    if option is None or any(word.startswith(("--user-data-dir", "--profile", "-profile", "-P")) for word in command):
        return command
    tell(f"{Path(command[0]).name} gets a profile of its own: a window of a running browser would escape inspection")
    return [command[0], *option.format(folder / "profile").split(), *command[1:]]


def run(launch: Launch, policy: Policy, command: list[str], tell: Callable[[str], None]) -> int:
    """Run the command under inspection and return its exit code (128 and the signal's number where one ended it)."""
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]}: no such program")
    invoker = Invoker.find()
    with tempfile.TemporaryDirectory(prefix="lockgate-run-") as name:
        folder = Path(name)
        os.chown(folder, invoker.uid, invoker.gid)
        command = own_profile(command, folder, tell)
        if os.geteuid() == 0:
            return _captured(launch, policy, command, invoker, folder)
        return _through_variables(launch, command, folder)


def _captured(launch: Launch, policy: Policy, command: list[str], invoker: Invoker, folder: Path) -> int:
    capture = policy.capture
    group = Path(cgroups.mount()) / f"lockgate-{os.getpid()}"
    group.mkdir()
    try:
        launch.instance = f"run_{os.getpid()}"
        launch.plan = lambda port, _: Plan(
            capture.ports, port, None, Scope(cgroup=f"/{group.name}"), capture.quic, capture.fail,
            capture.loopback, capture.lan, "report")
        launcher = Launcher(launch)
        pair = launcher.start()
        try:
            trust = Trust.make(folder, Path(pair.ready["ca"]))
            nss = trust.nss(invoker.home, invoker.uid, invoker.gid)
            environment = {key: value for key, value in os.environ.items() if key not in PROXY_VARIABLES}
            environment |= trust.variables()
            environment.pop("SSL_CERT_DIR", None)
            if invoker.uid != 0:
                environment |= {"HOME": str(invoker.home), "USER": invoker.name, "LOGNAME": invoker.name}

            def become() -> None:
                (group / "cgroup.procs").write_text(str(os.getpid()))
                trust.enter(invoker.home, nss)
                if invoker.uid != 0:
                    os.initgroups(invoker.name, invoker.gid)
                    os.setgid(invoker.gid)
                    os.setuid(invoker.uid)

            return _wait(subprocess.Popen(command, env=environment, preexec_fn=become), launcher)
        finally:
            _end_group(group)
            launcher.stop()
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()


def _end_group(group: Path) -> None:
    """What the command left running would go on without trust and capture: it ends with the command."""
    with contextlib.suppress(OSError):
        (group / "cgroup.kill").write_text("1")     # Linux 5.14; and wait until the group is empty
        for _ in range(50):
            if not (group / "cgroup.procs").read_text():
                return
            signal.sigtimedwait([], 0.02)


def _through_variables(launch: Launch, command: list[str], folder: Path) -> int:
    launcher = Launcher(launch)
    pair = launcher.start()
    try:
        host, port = pair.ready["listen"][0][:2]
        trust = Trust.make(folder, Path(pair.ready["ca"]))
        environment = {**os.environ, **trust.variables(), **dict.fromkeys(PROXY_VARIABLES, f"http://{host}:{port}"),
                       "NO_PROXY": LOCAL, "no_proxy": LOCAL, "NODE_USE_ENV_PROXY": "1"}
        environment.pop("SSL_CERT_DIR", None)
        return _wait(subprocess.Popen(command, env=environment), launcher)
    finally:
        launcher.stop()


def _wait(process: subprocess.Popen[bytes], launcher: Launcher) -> int:
    """Wait for the command, which has the terminal and its signals; a proxy that dies meanwhile is replaced."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())

    def tell(message: dict[str, object]) -> None:
        if message["type"] in ("restarting", "reload-failed"):
            print(f"lockgate: {message['type']}: {message.get('reason') or message.get('errors')}", file=sys.stderr)

    launcher.supervise(tell, lambda: process.poll() is not None)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


