"""The real proxy behind a backend: `lockgate`, with a rule that passes on whatever goes to the lab's origins."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from redirector import release
from tests.contract.lab import CLIENT4, LAN, Lab

POLICY = """\
version: 1
capture: {fail: closed}
limits: {hello: 1}
connections:
  - {id: all, verdict: bypass, addresses: ["198.51.100.0/24", "2001:db8::/64"]}
"""
#: As most computers have one: the kernel tracks every connection, whoever captures.
FIREWALL = ("table inet firewall { chain input { type filter hook input priority 0; ct state established accept; }; "
            "chain output { type filter hook output priority 0; ct state established accept; }; }")


@dataclass
class Client:
    """Where applications run, as `ask` wants it."""

    lab: Lab
    popen: Callable[..., "subprocess.Popen[str]"]


def lockgate(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-I", "-m", "proxy.cli", *words, "--policy", str(folder / "policy.yaml"),
            "--state", str(folder / "state"), "--run-dir", str(folder / "run")]


@contextlib.contextmanager
def started(lab: Lab, folder: Path, backend: str) -> Iterator[Client]:
    """Applications that are captured by this backend; `direct` by none, `tracked` by none behind a stateful firewall."""
    (folder / "policy.yaml").write_text(POLICY)
    if backend == "direct":
        yield Client(lab, lab.popen)
        return
    if backend == "tracked":
        lab.client.sh(f"nft '{FIREWALL}'")
        yield Client(lab, lab.popen)
        lab.client.sh("nft delete table inet firewall")
        return
    if backend == "hook":       # the application runs below it
        yield Client(lab, lambda command, **more: lab.popen(
            [*lockgate(folder, "run", "--capture", "hook"), "--", *command], **more))
        return
    process = lab.popen(lockgate(folder, "start", "--capture", backend, "--json"), stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"lockgate start --capture {backend}: {process.wait(10)}"
        host, port = json.loads(line)["listen"][0][:2]
        proxied = {"ALL_PROXY": f"socks5h://{host}:{port}", "NO_PROXY": f"127.0.0.1,::1,{LAN},{CLIENT4}"}
        env = os.environ | (proxied if backend == "explicit" else {})
        yield Client(lab, lambda command, **more: lab.popen(command, **more | {"env": env}))
    finally:
        process.terminate()
        process.communicate()
        lab.client.call(release.release, str(folder / "run"))
