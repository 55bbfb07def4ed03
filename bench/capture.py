"""Redirected and bypassed traffic, direct and by each backend, in one run: MB/s and new connections a second.

    .venv/bin/python bench/capture.py [BACKEND ...]        (root; default: nftables divert)

In the contract suite's network, with its stand-in for the proxy, which passes everything on by the real splice; best of
three rounds, so that what else the computer does counts little. `segments`: 64 KB as with segmentation offload, or one
packet each as without.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from redirector.wire import Ready
from tests.contract.lab import ORIGIN4, Lab
from tests.contract.rig import EVERYTHING, ask, available

ROUNDS = 3
BYTES = {"64 KB": 300_000_000, "MTU": 40_000_000}
CONNECTIONS, THREADS = 600, 8
LIMIT = 120.0


def rate(where, action, **arguments):
    """How many of `count` a second, in the best round."""
    best = 0.0
    for _ in range(ROUNDS):
        began = time.monotonic()
        answer = ask(where, action, patience=LIMIT, **arguments)
        assert "error" not in answer, answer
        best = max(best, arguments["count"] / (time.monotonic() - began))
    return best


def measure(lab, where):
    found = {}
    for segments, count in BYTES.items():
        for namespace in (lab.client, lab.origin):
            namespace.sh(f"ip link set e0 gso_max_segs {1 if segments == 'MTU' else 65535}")
        found[f"upload, {segments}"] = rate(where, "upload", address=ORIGIN4, port=443, count=count) / 1e6
        found[f"download, {segments}"] = rate(where, "download", address=ORIGIN4, port=443, count=count) / 1e6
    for namespace in (lab.client, lab.origin):
        namespace.sh("ip link set e0 gso_max_segs 65535")
    targets = [[ORIGIN4, 443]]
    found["connections"] = rate(where, "many", targets=targets, count=CONNECTIONS, threads=THREADS)
    found["another port, 64 KB"] = rate(where, "upload", address=ORIGIN4, port=8443, count=BYTES["64 KB"]) / 1e6
    return found


def main(names):
    rigs = available()
    with tempfile.TemporaryDirectory(prefix="lockgate-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        lab = Lab(folder)
        try:
            results = {"direct": measure(lab, lab)}
            for backend in names:
                assert not isinstance(rigs[backend], str), rigs[backend]
                (folder / backend).mkdir(mode=0o755)
                rig = rigs[backend](lab, folder / backend)
                try:
                    assert isinstance(rig.start(EVERYTHING), Ready)
                    results[backend] = measure(lab, rig)
                finally:
                    rig.close()
        finally:
            lab.close()
    print(f"{'':24}" + "".join(f"{name:>20}" for name in results))
    for row, direct in results["direct"].items():
        cells = [f"{found[row]:10.0f} ({found[row] / direct:6.1%})" for found in results.values()]
        print(f"{row:24}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main(sys.argv[1:] or ["nftables", "divert"])
