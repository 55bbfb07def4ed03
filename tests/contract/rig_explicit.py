"""The explicit proxy under the contract: `lockgate start --capture explicit`, and applications that obey their variables.

The launcher replaces what dies, so no process has the roles of which the fail mode is expected for good.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxy import sinks
from proxy.explicit import DECLARATION
from redirector import release
from redirector.plan import Plan
from redirector.wire import Failed, Ready
from tests.contract.driven import LIMIT, alive_record, root_and
from tests.contract.lab import CLIENT4, LAN, Lab
from tests.contract.rig import Seen, alive
from tests.waiting import wait_for

#: Nothing is decrypted: it is about connections here.  Who says nothing is waited for a second.
POLICY = """\
version: 1
limits: {hello: 1, answer: 10}
connections:
  - {id: all, verdict: bypass, addresses: ["0.0.0.0/0", "::/0"]}
"""
DIRECT = ",".join(("127.0.0.1", "::1", LAN, CLIENT4))
#: Seconds until what was decided has been written (proxy/sinks.py).
WRITTEN = 0.6
#: What the launcher's own children are, by their module.
ROLES = {"proxy.worker": "worker", "redirector": "lookup"}


def missing() -> str:
    return root_and("ip", "setpriv")


class Rig:
    declaration = DECLARATION
    exempt_ports = range(0)

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder, self.run_dir = lab, folder, folder / "run"
        self.run_dir.mkdir(exist_ok=True)
        self.state, self.policy = folder / "state", folder / "policy.yaml"
        self.policy.write_text(POLICY)
        self.launcher: subprocess.Popen[str] | None = None
        self.port = 0
        self._owners = False
        self._known: dict[str, int] = {}
        self._since = 0.0

    def start(self, plan: Plan, *, owners: bool = False, cwd: str = "/") -> Ready | Failed:
        self.close()
        self.port, self._owners = plan.listen_port, owners
        command = [sys.executable, "-I", "-m", "proxy.cli", "start", "--capture", "explicit", "--json", "--listen",
                   f"127.0.0.1:{self.port}", "--state", str(self.state), "--policy", str(self.policy), "--run-dir",
                   str(self.run_dir)]
        with (self.folder / "stderr").open("wb") as complaints:
            self.launcher = self.lab.client.call(subprocess.Popen, command, stdout=subprocess.PIPE, stderr=complaints,
                                                 text=True, cwd=cwd)
        assert self.launcher.stdout
        line = self.launcher.stdout.readline()
        if not line:
            return Failed((self.folder / "stderr").read_text())
        assert json.loads(line)["type"] == "ready", line
        self.processes()
        return Ready("explicit", 0, cut=False)

    def popen(self, command: Sequence[str], *, uid: int = 0, cgroup: Path | None = None,
              **more: Any) -> subprocess.Popen[str]:
        variables = {"ALL_PROXY": f"socks5h://127.0.0.1:{self.port}", "NO_PROXY": DIRECT}
        return self.lab.popen(command, uid=uid, cgroup=cgroup, env=os.environ | variables, **more)

    def seen(self) -> list[Seen]:
        time.sleep(WRITTEN)
        found = []
        for event in sinks.read(self.state):
            if event["event_type"] not in ("tls", "tcp") or event["lockgate"]["verdict"] != "bypass":
                continue
            process = event.get("process", {}) if self._owners else {}
            found.append(Seen((event["dest_ip"], event["dest_port"]), process.get("pid"), process.get("uid"),
                              process.get("exe", "")))
        return found

    def processes(self) -> dict[str, int]:
        found = {}
        if self.launcher is not None and self.launcher.poll() is None:
            found["launcher"] = self.launcher.pid
            for folder in Path("/proc").glob("[0-9]*"):
                role = self._role(folder)
                if role:
                    found[role] = int(folder.name)
        self._known |= found
        return found

    def _role(self, folder: Path) -> str:
        assert self.launcher
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):       # it has just ended
            return ""
        ours = parent == self.launcher.pid and alive(int(folder.name))
        return next((role for module, role in ROLES.items() if ours and module in words), "")

    def stop(self) -> None:
        if self.launcher is not None and self.launcher.poll() is None:
            self.processes()
            self.launcher.terminate()
            self.launcher.wait(LIMIT)

    def mend(self) -> None:
        """The launcher does it itself."""

    def left(self) -> list[str]:
        tables = [line for line in self.lab.client.sh("nft list tables").splitlines() if "lockgate" in line]
        rest = [f"{role} {pid}" for role, pid in self._known.items() if alive(pid)]
        return [*tables, *rest, *(str(path) for path in self.run_dir.glob("*.json") if alive_record(path))]

    def close(self) -> None:
        """The launcher first, that it replaces nothing; what it has started sees that and ends, or is ended."""
        if self.launcher is None:
            return
        pids = self.processes()
        self.launcher.send_signal(signal.SIGKILL)
        self.launcher.wait(LIMIT)
        if self.launcher.stdout:
            self.launcher.stdout.close()
        for role, pid in pids.items():
            if role != "launcher" and not wait_for(lambda pid=pid: not alive(pid), 0.1):    # type: ignore[misc]
                os.kill(pid, signal.SIGKILL)
                wait_for(lambda pid=pid: not alive(pid), LIMIT)     # type: ignore[misc]
        self.lab.client.call(release.release, str(self.run_dir))
        self.launcher = None
