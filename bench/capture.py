"""What capture costs: redirected and bypassed against direct, and traffic that is none of its business, in one run.

    sudo .venv/bin/python -m bench.capture [--rounds 5] [--backend nftables ...] [--json FILE]

Two network namespaces (tests/contract/lab.py): applications and lockgate in one, the origin in the other. The real
worker splices by a bypass rule for the origin's addresses. Measured for each backend in turn, `direct` among them:

    64 KB       MB a second of one upload; the network takes segments of 64 KB (GSO)
    MTU         the same with segments of 1500 bytes
    new         new connections a second, 8 at a time
    other 64 KB, other MTU, other new    the same at a port that is not captured

`tracked` is direct behind a firewall that knows connections: nftables has the kernel track them too, so that is what
its `other` is to be compared with (within 2 %). Printed are medians and ratios to `direct`. Origin, application and
proxy share the computer: ratios say more than rates. Needs root, and what the contract suite needs.
"""

import argparse
import json
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.contract.lab import MTU, ORIGIN4, Lab
from tests.contract.rig import ask
from tests.contract.worker import Client, started

#: The largest segment that Linux makes before the network card cuts it (netdevice(7), GSO_MAX_SIZE).
GSO = 65536
#: Bytes of an upload, and connections: some seconds for the slowest.
BYTES, CONNECTIONS, THREADS = 200_000_000, 1000, 8
CAPTURED, OTHER = 443, 8443

def segments(lab: Lab, size: int) -> None:
    for where in (lab.client, lab.origin):
        where.sh(f"ip link set dev e0 gso_max_size {size} gso_max_segs {max(1, size // MTU)}")


def measure(lab: Lab, client: Client, port: int) -> dict[str, float]:
    """MB a second with large segments and small ones, and new connections a second."""
    found = {}
    for name, size in (("64 KB", GSO), ("MTU", MTU)):
        segments(lab, size)
        said = told(client, "flow", port=port, count=BYTES, size=65536)
        found[name] = BYTES / said["seconds"] / 1e6
    segments(lab, GSO)
    said = told(client, "new_connections", port=port, count=CONNECTIONS, threads=THREADS)
    assert said["right"] == CONNECTIONS, said
    found["new"] = CONNECTIONS / said["seconds"]
    return found


def told(client: Client, action: str, **arguments: Any) -> dict[str, Any]:
    said = ask(client, action, 600, address=ORIGIN4, **arguments)
    assert "error" not in said, said
    return said


def one_round(lab: Lab, folder: Path, backend: str) -> dict[str, float]:
    with started(lab, folder, backend) as client:
        found = measure(lab, client, CAPTURED)
        if backend != "explicit":       # there it goes by the proxy as well
            found |= {f"other {name}": rate for name, rate in measure(lab, client, OTHER).items()}
    return found


def report(results: dict[str, dict[str, list[float]]]) -> None:
    medians = {who: {name: statistics.median(rates) for name, rates in each.items()} for who, each in results.items()}
    for name in medians["direct"]:
        for who, each in medians.items():
            if name in each:
                unit = "/s" if name.endswith("new") else "MB/s"
                ratio = each[name] / medians["direct"][name]
                print(f"{name:12} {who:9} {each[name]:8.0f} {unit:5} {ratio:.2f} of direct")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", action="append", choices=("nftables", "divert", "hook", "explicit"))
    parser.add_argument("--json", type=Path, help="write every measurement there")
    options = parser.parse_args()
    results: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory(prefix="lockgate-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        lab = Lab(folder)
        try:
            for number in range(options.rounds):
                for backend in ("direct", "tracked", *(options.backend or ["nftables"])):
                    for what, rate in one_round(lab, folder, backend).items():
                        results[backend][what].append(rate)
                    print(f"round {number + 1} {backend}: " + ", ".join(
                        f"{what} {rates[-1]:.0f}" for what, rates in results[backend].items()), flush=True)
        finally:
            lab.close()
    report(results)
    if options.json:
        options.json.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
