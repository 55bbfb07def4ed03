"""Requests and new connections a second, against stock mitmdump, in one run.

    sudo .venv/bin/python bench/load.py [--rounds 5] [--seconds 5] [--policy FILE]

Two network namespaces: client and proxy in one, an nginx origin (TLS, 1 KiB) in the other.  wrk runs as `nobody`,
whose connections are diverted: to mitmdump as it comes, and to lockgate with all of its filters on.  They take turns;
printed are the medians, their ratio, and the processor time that the proxy used for each request, which a busy machine
disturbs less.
Needs root and (Debian) nftables, iproute2, nginx-light, openssl, wrk.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CLIENT, ORIGIN = "lgb-client", "lgb-origin"
ADDRESS, CLIENT_ADDRESS = "198.51.100.2", "198.51.100.1"
PORT = 18443
BIN = Path(sys.executable).parent
NGINX = """
worker_processes 1; pid {d}/nginx.pid; error_log {d}/nginx.err; daemon on;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 10000000; client_body_temp_path {d}/body;
  server {{ listen 443 ssl; ssl_certificate {d}/o.pem; ssl_certificate_key {d}/o.key; root {d}; }} }}
"""
POLICY = """
version: 1
tls: {{upstream: {{trusted_ca: {d}/ca.pem}}}}
filters:
  - {{id: hosts, use: blocklist.Hosts, with: {{hosts: [ads.example]}}}}
  - {{id: classes, use: classify.Http}}
  - {{id: secrets, use: secrets.Secrets}}
  - {{id: cards, use: cards.Cards}}
"""
REDIRECT = f"""table inet bench {{ chain out {{ type nat hook output priority -100;
  meta skuid nobody tcp dport 443 redirect to :{PORT}; }}; }}"""


def sh(*command: str, namespace: str | None = None, **options: object) -> subprocess.CompletedProcess[str]:
    entered = ["nsenter", f"--net=/var/run/netns/{namespace}"] if namespace else []
    return subprocess.run([*entered, *command], check=True, capture_output=True, text=True, **options)  # type: ignore[call-overload,no-any-return]


@contextlib.contextmanager
def lab(folder: Path) -> Iterator[None]:
    """The namespaces and the origin."""
    for name in (CLIENT, ORIGIN):
        sh("ip", "netns", "add", name)
        sh("ip", "-n", name, "link", "set", "lo", "up")
    try:
        sh("ip", "link", "add", "lgb0", "netns", CLIENT, "type", "veth", "peer", "name", "lgb1", "netns", ORIGIN)
        for name, link, address in ((CLIENT, "lgb0", CLIENT_ADDRESS), (ORIGIN, "lgb1", ADDRESS)):
            sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", link)
            sh("ip", "-n", name, "link", "set", link, "up")
        _certificates(folder)
        (folder / "1k").write_bytes(os.urandom(512).hex().encode())
        (folder / "nginx.conf").write_text(NGINX.format(d=folder))
        (folder / "policy.yaml").write_text(POLICY.format(d=folder))
        sh("nginx", "-c", f"{folder}/nginx.conf", "-p", str(folder), namespace=ORIGIN)
        try:
            yield
        finally:
            os.kill(int((folder / "nginx.pid").read_text()), signal.SIGTERM)
    finally:
        for name in (CLIENT, ORIGIN):
            sh("ip", "netns", "del", name)


def _certificates(d: Path) -> None:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    sh("openssl", "req", "-x509", *key, "-keyout", f"{d}/ca.key", "-out", f"{d}/ca.pem", "-subj", "/CN=bench")
    sh("openssl", "req", *key, "-keyout", f"{d}/o.key", "-out", f"{d}/o.csr", "-subj", "/CN=o")
    (d / "ext").write_text(f"subjectAltName=IP:{ADDRESS}\nextendedKeyUsage=serverAuth")
    sh("openssl", "x509", "-req", "-in", f"{d}/o.csr", "-CA", f"{d}/ca.pem", "-CAkey", f"{d}/ca.key", "-days", "2",
       "-CAcreateserial", "-extfile", f"{d}/ext", "-out", f"{d}/o.pem")
    for path in d.iterdir():
        path.chmod(0o644)


@contextlib.contextmanager
def mitmdump(folder: Path) -> Iterator[int]:
    """Stock, transparent, quiet."""
    process = subprocess.Popen(
        ["nsenter", f"--net=/var/run/netns/{CLIENT}", str(BIN / "mitmdump"), "-q", "--mode", "transparent",
         "--listen-port", str(PORT), "--set", f"confdir={folder}/mitm",
         "--set", f"ssl_verify_upstream_trusted_ca={folder}/ca.pem"])
    sh("nft", "-f", "-", namespace=CLIENT, input=REDIRECT)
    try:
        time.sleep(5)
        yield process.pid
    finally:
        sh("nft", "delete", "table", "inet", "bench", namespace=CLIENT)
        process.terminate()
        process.wait()


@contextlib.contextmanager
def lockgate(folder: Path, policy: Path) -> Iterator[int]:
    """With every filter of the policy on."""
    process = subprocess.Popen(
        ["nsenter", f"--net=/var/run/netns/{CLIENT}", str(BIN / "lockgate"), "start", "--only-user", "nobody",
         "--policy", str(policy), "--state", f"{folder}/state", "--run-dir", f"{folder}/run", "--json"],
        stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["type"] == "ready", ready
        yield int(sh("pgrep", "-P", str(process.pid), "-f", "proxy.worker").stdout.split()[0])
    finally:
        process.terminate()
        process.wait()


def cpu(pid: int) -> float:
    """Seconds of processor time (proc(5), stat: utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(pid: int, seconds: int, *, close: bool) -> tuple[float, float]:
    """Requests a second, and milliseconds of the proxy's processor time for each."""
    header = ["-H", "Connection: close"] if close else []
    before = cpu(pid)
    out = sh("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "wrk", "-t1", "-c16", f"-d{seconds}",
             *header, f"https://{ADDRESS}/1k", namespace=CLIENT).stdout
    if "Non-2xx" in out:
        print("   note:", re.search(r"Non-2xx.*", out)[0])  # type: ignore[index]
    done = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), 1000 * (cpu(pid) - before) / done  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--policy", type=Path)
    options = parser.parse_args()
    results: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="lockgate-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with lab(folder):
            for number in range(options.rounds):
                for who, start in (("mitmdump", lambda: mitmdump(folder)),
                                   ("lockgate", lambda: lockgate(folder, options.policy or folder / "policy.yaml"))):
                    with start() as pid:
                        for close in (False, True):
                            got = load(pid, options.seconds, close=close)
                            results.setdefault((who, close), []).append(got)
                            print(f"round {number + 1} {who:9} {'new connections' if close else 'keep-alive':15} "
                                  f"{got[0]:7.0f}/s {got[1]:6.2f} ms", flush=True)
    for close in (False, True):
        ours, theirs = results["lockgate", close], results["mitmdump", close]
        rate = [statistics.median(r for r, _ in side) for side in (ours, theirs)]
        used = [statistics.median(c for _, c in side) for side in (ours, theirs)]
        print(f"{'new connections' if close else 'keep-alive requests'}: lockgate {rate[0]:.0f}/s, "
              f"mitmdump {rate[1]:.0f}/s, ratio {rate[0] / rate[1]:.2f}; "
              f"processor time {used[0]:.2f} and {used[1]:.2f} ms, ratio {used[1] / used[0]:.2f}")


if __name__ == "__main__":
    main()
