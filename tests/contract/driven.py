"""What the rigs of backends in `redirector/` share: the real redirector process, and the stand-in for the proxy."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from redirector import release, wire
from redirector.plan import Declaration, Plan
from tests.contract.lab import Lab
from tests.contract.rig import PROXY_UID, Seen, alive
from tests.redirector.namespaces import sh
from tests.waiting import wait_for

#: Seconds for redirector or proxy to do what it is asked, on a busy machine.
LIMIT = 15.0
#: Forwarded connections are answered on the address of the interface that they came by.
EVERYWHERE = ("0.0.0.0", "::")
#: Before all else on a busy computer: silence of a second is a death, and it is not this computer that is under test.
AHEAD = ("nice", "-n", "-10")


class Driven:
    """A rig for one of these backends: a subclass says which, and what differs.

    As `proxy/launcher.py` does it: the proxy first, then the redirector with Start as its argument, at the two ends of
    one socket pair.
    """

    declaration: ClassVar[Declaration]
    exempt_ports = range(0)
    #: Where the stand-in listens, and how it learns the original destination (standin.py).
    listen: ClassVar[Sequence[str]] = ("127.0.0.1", "::1")
    original: ClassVar[str] = "socket"

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.run_dir = folder / "run"
        self.run_dir.mkdir(mode=0o755, exist_ok=True)
        self.log = folder / "standin.log"
        self.proxy: subprocess.Popen[bytes] | None = None
        self.redirector: subprocess.Popen[bytes] | None = None
        #: Standard error of both.
        self.complaints = folder / "stderr"

    # -- to be overridden where a backend differs

    def redirector_command(self, start: bytes) -> list[str]:
        return [*AHEAD, sys.executable, "-I", "-m", "redirector", start.decode()]

    def redirector_options(self) -> dict[str, Any]:
        """More for the redirector's subprocess.Popen, as `pass_fds`."""
        return {}

    def standin_options(self) -> dict[str, Any]:
        """More options for standin.py, or other values."""
        return {}

    def popen(self, command: Sequence[str], *, uid: int = 0, cgroup: Path | None = None,
              **more: Any) -> subprocess.Popen[str]:
        return self.lab.popen(command, uid=uid, cgroup=cgroup, **more)

    # -- the life of it

    def start(self, plan: Plan, *, owners: bool = False, cwd: str = "/") -> wire.Ready | wire.Failed:
        self._kill()        # as a launcher that replaces what has died
        plan = replace(plan, backend=self.declaration.name)     # type: ignore[arg-type]   # "explicit" is not Driven
        self.log.write_text("")
        self.log.chmod(0o666)
        ours, theirs = socket.socketpair()
        with ours, theirs, self.complaints.open("ab") as complaints:
            listen = EVERYWHERE if plan.forward else self.listen
            self.proxy = self._start_proxy(theirs, [[host, plan.listen_port] for host in listen], owners, complaints)
            assert wait_for(lambda: self._lines("listening"), LIMIT), self.complaints.read_text()
            start = wire.encode(wire.Start("contract", str(self.run_dir), plan)).rstrip()
            self.redirector = self.lab.client.call(
                subprocess.Popen, self.redirector_command(start), stdin=ours, stdout=ours, stderr=complaints,
                cwd=cwd, start_new_session=True, **self.redirector_options())
        answer = wait_for(lambda: self._lines("answer"), LIMIT)
        assert answer, self.complaints.read_text()
        message = wire.decode(answer[0]["answer"].encode())
        assert isinstance(message, wire.Ready | wire.Failed)
        return message

    def _start_proxy(self, channel: socket.socket, listen: list[list[Any]], owners: bool,
                     complaints: Any) -> "subprocess.Popen[bytes]":
        options = {"channel": channel.fileno(), "listen": listen, "original": self.original, "owners": owners, "ports": None, "uid": PROXY_UID,
                   "log": str(self.log)}
        if self.exempt_ports:
            options["ports"] = [self.exempt_ports[0], self.exempt_ports[-1]]
        command = [*AHEAD, sys.executable, "-I", str(Path(__file__).with_name("standin.py")),
                   json.dumps(options | self.standin_options())]
        process: subprocess.Popen[bytes] = self.lab.client.call(
            subprocess.Popen, command, pass_fds=[channel.fileno()], stderr=complaints, cwd="/")
        return process

    def _lines(self, key: str) -> list[dict[str, Any]]:
        whole = self.log.read_text().rpartition("\n")[0].splitlines()
        return [said for line in whole if key in (said := json.loads(line))]

    def seen(self) -> list[Seen]:
        return [Seen(tuple(said["server"]), said["pid"], said["uid"], said["exe"] or "")
                for said in self._lines("server")]

    def processes(self) -> dict[str, int]:
        found = {record.role: record.pid for record in release.status(str(self.run_dir))}
        for role, process in (("proxy", self.proxy), ("redirector", self.redirector)):
            if process is not None and process.poll() is None:
                found[role] = process.pid
        return found

    def stop(self) -> None:
        """As the launcher: the proxy ends (or is ended), the redirector sees that, and a guard is lifted."""
        for process in (self.proxy, self.redirector):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(LIMIT)
        self.lab.client.call(release.release, str(self.run_dir))

    def mend(self) -> None:
        for process, other in ((self.proxy, self.redirector), (self.redirector, self.proxy)):
            if process is not None and process.poll() is not None and other is not None:
                other.kill()
                other.wait()

    def left(self) -> list[str]:
        tables = [line for line in self.lab.client.sh("nft list tables").splitlines() if "lockgate" in line]
        rest = [f"{role} {pid}" for role, pid in self.processes().items() if alive(pid)]
        return [*tables, *rest, *(str(path) for path in self.run_dir.iterdir() if alive_record(path)),
                *self.left_of_backend()]

    def left_of_backend(self) -> list[str]:
        """What this backend alone could leave behind: programs, filters, pinned objects, routes."""
        rules = sh(f"ip -n {self.lab.client.name} rule; ip -n {self.lab.client.name} -6 rule")
        return [line for line in rules.splitlines() if not line.strip().endswith(("local", "main", "default"))]

    def _kill(self) -> None:
        for process in (self.proxy, self.redirector):
            if process is not None:
                process.kill()
                process.wait()

    def close(self) -> None:
        self._kill()
        self.lab.client.call(release.release, str(self.run_dir))


def alive_record(path: Path) -> bool:
    """A record of a process that has ended is no trace: the next start removes it."""
    with path.open() as file:
        return alive(int(json.load(file)["pid"]))


def root_and(*programs: str) -> str:
    """For `missing`: what is not here of root and these programs."""
    if os.geteuid() != 0:
        return "namespaces need root"
    from shutil import which
    absent = [program for program in programs if not which(program)]
    return f"not installed: {', '.join(absent)}" if absent else ""
