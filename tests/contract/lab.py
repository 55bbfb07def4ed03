"""Two computers in network namespaces with a cable between them: where applications run, and the origin."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.redirector.namespaces import Namespace, sh
from tests.waiting import wait_for

#: Documentation prefixes (RFC 5737, RFC 3849) stand for the internet, 10.77.0.0/24 for a LAN.
CLIENT4, CLIENT6 = "198.51.100.1", "2001:db8::1"
ORIGIN4, ORIGIN6, MAPPED, LAN = "198.51.100.2", "2001:db8::2", "::ffff:198.51.100.2", "10.77.0.2"
#: Origins that are odd: another that serves, one that speaks first, one where nobody listens, one that swallows what it
#: gets, one that the network says cannot be reached, and one that there is no route to.
SECOND4, BANNER4, REFUSED4, BLACKHOLE4, UNREACHABLE4, NOWHERE4 = (
    "198.51.100.3", "198.51.100.4", "198.51.100.5", "198.51.100.6", "198.51.100.7", "203.0.113.1")
BANNER6, REFUSED6, BLACKHOLE6, UNREACHABLE6, NOWHERE6 = (
    "2001:db8::4", "2001:db8::5", "2001:db8::6", "2001:db8::7", "2001:db8:ffff::1")
ODD = f"""table inet odd {{
  chain input {{
    type filter hook input priority 0;
    ip daddr {BLACKHOLE4} drop
    ip6 daddr {BLACKHOLE6} drop
    ip daddr {UNREACHABLE4} reject with icmp type host-unreachable
    ip6 daddr {UNREACHABLE6} reject with icmpv6 type addr-unreachable
  }}
}}
"""
#: On the origin, and for loopback and addresses of our own on the client.
PORTS = (80, 443, 8443)
#: Bytes in a packet on the cable.
MTU = 1500


class Lab:
    """`folder` can be read by everyone; the origin writes there what it heard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        name = f"lgk{os.getpid()}"
        self.client, self.origin = Namespace(f"{name}c"), Namespace(f"{name}o")
        self.application = Path(shutil.copytree(
            Path(__file__).with_name("application"), folder / "application", ignore=shutil.ignore_patterns("__pycache__")))
        self._servers: list[subprocess.Popen[bytes]] = []
        sh(f"ip link add e0 netns {self.client.name} type veth peer name e0 netns {self.origin.name}")
        six = [f"2001:db8::{host}/64 nodad" for host in (2, 4, 5, 6, 7)]
        self._addresses(self.client, [f"{CLIENT4}/24", "10.77.0.1/24", f"{CLIENT6}/64 nodad"])
        self._addresses(self.origin, [*(f"198.51.100.{host}/24" for host in range(2, 8)), f"{LAN}/24", *six])
        self.origin.call(subprocess.run, ["nft", "-f", "-"], input=ODD.encode(), check=True)
        for where in (self.client, self.origin):
            where.sh("sysctl -qw net.ipv4.tcp_fastopen=3")
        self._serve(self.origin, "origin.log", (ORIGIN4, SECOND4, BANNER4, LAN, ORIGIN6, BANNER6))
        self._serve(self.client, "local.log", (CLIENT4, "127.0.0.1", "::1"))

        assert wait_for(self._reaches, 10.0), "the two computers do not see each other"

    def _reaches(self) -> bool:
        """A link that has just come up loses packets for up to a second."""
        try:
            for address in (ORIGIN4, ORIGIN6):
                self.client.call(socket.create_connection, (address, 443), timeout=0.2).close()
        except OSError:
            return False
        return True

    @property
    def lab(self) -> "Lab":
        """A Lab is where applications run without any capture, as a Rig is where they run with it."""
        return self

    @staticmethod
    def _addresses(where: Namespace, addresses: Sequence[str]) -> None:
        for address in addresses:
            sh(f"ip -n {where.name} address add {address} dev e0")
        sh(f"ip -n {where.name} link set e0 mtu {MTU} up")

    def _serve(self, where: Namespace, log: str, addresses: Sequence[str]) -> None:
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("origin.py")), str(self.folder / log),
                   ",".join(map(str, PORTS)), *addresses]
        server = where.call(subprocess.Popen, command, stdout=subprocess.PIPE)
        self._servers.append(server)
        assert server.stdout.readline() == b"ready\n"

    def popen(self, command: Sequence[str], *, uid: int = 0, cgroup: Path | None = None,
              **more: Any) -> subprocess.Popen[str]:
        """Start a process on the client, as that user, in that control group; nothing is captured by this."""
        if cgroup is not None:
            command = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(cgroup), *command]
        if uid:
            command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command]
            if cgroup is not None:      # only root may move itself
                command = [*command[4:8], "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command[8:]]
        process: subprocess.Popen[str] = self.client.call(subprocess.Popen, list(command), text=True, **more)
        return process

    def heard(self, ident: str, limit: float = 5.0) -> dict[str, Any]:
        """How the connection of that name ended at the origin, once it has (origin.py, `heard`)."""
        def entry() -> dict[str, Any] | None:
            lines = (self.folder / "origin.log").read_text().splitlines()
            return next((said for line in lines if (said := json.loads(line))["id"] == ident), None)

        return dict(wait_for(entry, limit) or {})

    def quiet(self) -> None:
        """Let no connection to a captured port be left of what was before."""
        self.client.sh("ss -K state fin-wait-2 '( dport = :80 or dport = :443 )'")      # nobody's, for a minute
        old = "ss -Htn state connected exclude time-wait '( dport = :80 or dport = :443 )'"
        assert wait_for(lambda: not self.client.sh(old), 10.0), self.client.sh("ss -tnpo") + self.origin.sh("ss -tnpo")

    def close(self) -> None:
        for server in self._servers:
            server.kill()
            server.communicate()
        for namespace in (self.client, self.origin):
            with contextlib.suppress(subprocess.CalledProcessError):
                sh(f"ip netns delete {namespace.name}")
