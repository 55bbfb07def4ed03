"""A computer and an origin in network namespaces of their own, nginx on the origin, and lockgate on the computer."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redirector import release
from tests.live.pki import certify
from tests.waiting import wait_for

#: Documentation prefixes (RFC 5737, RFC 3849). The blocked host has an address of its own, whose packets are counted.
CLIENT, ORIGIN, BLOCKED, ORIGIN6 = "198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8:77::2"
NAMES = {ORIGIN: ("origin.test", "bank.test", "git.test"), BLOCKED: ("blocked.test",), ORIGIN6: ("six.test",)}
#: Seconds for a worker to start on a busy machine.
START = 30.0
POLICY = """\
version: 1
capture: {{fail: {fail}}}
tls: {{bypass: [bank.test], upstream: {{trusted_ca: {roots}}}}}
filters:
  - {{id: no-go, use: blocklist.Hosts, with: {{hosts: [blocked.test]}}}}
  - {{id: classes, use: classify.Http}}
  - {{id: secrets, use: secrets.Secrets}}
  - {{id: cards, use: cards.Cards}}
"""
NGINX = """\
worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err; user root;
events {{ worker_connections 2048; }}
http {{
  log_format seen '$host $request_method $uri $server_protocol'; access_log {folder}/access.log seen;
  client_max_body_size 0; client_body_temp_path {folder}/body; types {{ text/html html; }}
  server {{ listen 80; listen [::]:80; listen 443 ssl http2; listen [::]:443 ssl http2;
    ssl_certificate {folder}/origin.pem; ssl_certificate_key {folder}/origin.key; root {folder}/www;
    location /post {{ return 200 "stored"; }} location /version {{ return 200 "$server_protocol"; }} }} }}
"""
COUNTERS = """\
table inet counts {
  chain in {
    type filter hook input priority 0
    ip daddr 198.51.100.3 counter comment "blocked"
    udp dport 443 counter comment "quic"
  }
}
"""


def sh(command: str, **more: Any) -> str:
    return subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True, **more).stdout


class Lab:
    """`folder` can be read by everyone; its sub-folder `home` is the HOME of what is started here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)
        for name in ("www", "home", "run", "tmp"):
            (folder / name).mkdir()
        self.client, self.origin = f"lgl{os.getpid()}c", f"lgl{os.getpid()}o"
        certify([name for group in NAMES.values() for name in group], list(NAMES), folder)
        hosts = [f"{address} {' '.join(names)}" for address, names in NAMES.items()]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        (folder / "www/index.html").write_text("<title>origin</title>hello from the origin")
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder))

    # -- the two computers

    def open(self) -> None:
        for name in (self.client, self.origin):
            sh(f"ip netns add {name} && ip -n {name} link set lo up")
        sh(f"ip link add lab0 netns {self.client} type veth peer name lab0 netns {self.origin}")
        for name, addresses in (
            (self.client, (f"{CLIENT}/24", "2001:db8:77::1/64 nodad")),
            (self.origin, (f"{ORIGIN}/24", f"{BLOCKED}/24", f"{ORIGIN6}/64 nodad")),
        ):
            for address in addresses:
                sh(f"ip -n {name} address add {address} dev lab0")
            sh(f"ip -n {name} link set lab0 up")
        sh(f"nsenter --net=/run/netns/{self.origin} nft -f -", input=COUNTERS)
        sh(f"nsenter --net=/run/netns/{self.origin} nginx -c {self.folder}/nginx.conf -p {self.folder}")
        assert wait_for(lambda: self.curl("http://origin.test/", "-o", "/dev/null").returncode == 0, 5)

    def close(self) -> None:
        release.release(str(self.folder / "run"))
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.folder / "nginx.pid").read_text()), signal.SIGTERM)
        for name in (self.client, self.origin):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)

    # -- on the computer

    def inside(self, *command: object) -> list[str]:
        """The command in the computer's network, with its hosts file, seen by nobody else."""
        mount = f'mount --bind {self.folder}/hosts /etc/hosts; exec "$@"'
        return [
            *map(
                str,
                (
                    "nsenter",
                    f"--net=/run/netns/{self.client}",
                    "unshare",
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    mount,
                    "sh",
                    *command,
                ),
            )
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What a login gives, and no CA variable of the machine's."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
        }

    def call(
        self, *command: object, user: int | None = None, limit: float = 30, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        if user is not None:
            command = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command)
        more.setdefault("env", self.environment)
        return subprocess.run(self.inside(*command), capture_output=True, text=True, timeout=limit, **more)

    def curl(self, url: str, *more: object, user: int | None = None) -> subprocess.CompletedProcess[str]:
        return self.call(
            "curl",
            "-sS",
            "-m",
            "5",
            "--cacert",
            self.folder / "trusted.pem" if (self.folder / "trusted.pem").exists() else self.folder / "roots.pem",
            *more,
            url,
            user=user,
        )

    def status(self, url: str, *more: object, user: int | None = None) -> str:
        """What a client gets without checking certificates: `200`, `403` ..., or `refused`, `silence`."""
        done = self.curl(url, "-k", "-o", "/dev/null", "-w", "%{http_code}", *more, user=user)
        return done.stdout if done.returncode == 0 else "silence" if done.returncode == 28 else "refused"

    def issuer(self, url: str) -> str:
        """The common name of whoever certified the host, as the client sees it."""
        done = self.curl(url, "-k", "-v", "-o", "/dev/null")
        found = re.search(r"issuer:.*CN ?= ?([^;\n]*)", done.stderr)
        return found[1] if found else done.stderr

    def tables(self) -> list[str]:
        listing = sh(f"nsenter --net=/run/netns/{self.client} nft list tables")
        return [line.split()[-1] for line in listing.splitlines()]

    def packets(self, what: str) -> int:
        """How many reached the origin that are counted under this name."""
        listing = json.loads(sh(f"nsenter --net=/run/netns/{self.origin} nft -j list table inet counts"))
        rule = next(each["rule"] for each in listing["nftables"] if each.get("rule", {}).get("comment") == what)
        return int(rule["expr"][-1]["counter"]["packets"])

    def requests(self) -> list[str]:
        return (self.folder / "access.log").read_text().splitlines()

    # -- lockgate

    def policy(self, name: str = "policy.yaml", text: str = POLICY, fail: str = "closed") -> Path:
        path = self.folder / name
        path.write_text(text.format(roots=self.folder / "roots.pem", fail=fail))
        return path

    def lockgate(self, *words: object, python: str = sys.executable) -> list[str]:
        return [python, "-I", "-m", "proxy.cli", *map(str, words)]

    def run(self, *command: object, state: Path, policy: Path, **more: Any) -> subprocess.CompletedProcess[str]:
        """`lockgate run` of a command, as root."""
        return self.call(
            *self.lockgate(
                "run", "--state", state, "--policy", policy, "--run-dir", self.folder / "run", "--", *command
            ),
            **more,
        )

    def events(self, state: Path, *words: object) -> list[dict[str, Any]]:
        done = self.call(*self.lockgate("events", "--state", state, "--json", *words))
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    @contextlib.contextmanager
    def start(self, *words: object, state: Path, policy: Path | None = None) -> Iterator["Started"]:
        """`lockgate start`, ready; in the end it is stopped, and nothing of it may be left."""
        rules = ("--policy", policy) if policy else ()
        command = self.lockgate("start", "--json", "--state", state, "--run-dir", self.folder / "run", *rules, *words)
        with (self.folder / "stderr").open("w") as complaints:
            started = Started(
                self,
                state,
                subprocess.Popen(
                    self.inside(*command), stdout=subprocess.PIPE, stderr=complaints, text=True, env=self.environment
                ),
            )
        try:
            started.ready = started.message("ready")
            yield started
            started.stop()
        finally:
            started.process.kill()
            started.process.wait()
            started.process.stdout.close()  # type: ignore[union-attr]
            release.release(str(self.folder / "run"))


class Started:
    """A `lockgate start` that runs."""

    def __init__(self, lab: Lab, state: Path, process: subprocess.Popen[str]) -> None:
        self.lab, self.state, self.process = lab, state, process
        self.ready: dict[str, Any] = {}

    def message(self, kind: str) -> dict[str, Any]:
        """The next message of this kind; fails when the process ends instead."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if (message := json.loads(line))["type"] == kind:
                return message  # type: ignore[no-any-return]
        raise AssertionError(f"ended with {self.process.wait()}: {(self.lab.folder / 'stderr').read_text()}")

    def child(self, name: str) -> int:
        """The pid of the launcher's own process that runs this module."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_bytes().split(b"\0")
                if name.encode() in command and f"PPid:\t{self.process.pid}\n" in (folder / "status").read_text():
                    return int(folder.name)
        raise AssertionError(f"no {name} is running")

    def guard(self) -> int:
        return next(
            (record.pid for record in release.status(str(self.lab.folder / "run")) if record.role == "guard"), 0
        )

    def stop(self) -> None:
        """In order, where it has not been killed."""
        if self.process.poll() is None:
            self.process.terminate()
        if (code := self.process.wait(20)) == -signal.SIGKILL:
            return
        assert code == 0, (self.lab.folder / "stderr").read_text()
        assert (self.lab.tables(), list((self.lab.folder / "run").glob("*"))) == ([], [])


def missing(*programs: str) -> str:
    """Which of these programs are not here, for the reason of a skip."""
    return ", ".join(program for program in programs if not shutil.which(program))


@contextlib.contextmanager
def running(command: list[str], **more: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that is ended in any case: a test that fails must not wait for it."""
    with subprocess.Popen(command, **more) as process:
        try:
            yield process
        finally:
            process.kill()
