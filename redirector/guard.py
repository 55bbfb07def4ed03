"""The guard of `fail: closed`: a process whose table refuses what the redirector, while it lived, would have diverted.

`python -I -m redirector.guard` reads an Order as JSON, installs its rules, answers `ready` or an error on one line, and
then waits to be killed. It knows no plan, only rules. It is in a session of its own, so that it outlives the
redirector, the proxy and the terminal; `release.py` finds it by its record. Exit code 1: not installed.
"""
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from redirector import release
from redirector.nft import Tables
from redirector.plan import BackendError

#: Seconds for a guard to start Python and install its rules; 0.1 on an idle machine.
START_LIMIT = 5.0


@dataclass(frozen=True)
class Order:
    """What a guard is to hold, and what its record says."""

    run_dir: str
    instance: str
    table: str
    rules: str
    existing: list[list[Any]]


def start(order: Order) -> subprocess.Popen[bytes]:
    """Start a guard; its rules are in force on return. Raises BackendError."""
    child = subprocess.Popen([sys.executable, "-I", "-m", "redirector.guard"], cwd="/", start_new_session=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    answer = _ask(child, json.dumps(asdict(order)).encode())
    if answer != "ready":
        child.kill()
        child.wait()
        raise BackendError(f"the guard did not start: {answer}")
    return child


def _ask(child: subprocess.Popen[bytes], question: bytes) -> str:
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin, child.stdout:
        try:
            child.stdin.write(question)
            child.stdin.close()
        except BrokenPipeError:
            return "it ended at once"
        if not select.select([child.stdout], [], [], START_LIMIT)[0]:
            return f"no answer within {START_LIMIT:.0f} s"
        return child.stdout.readline().decode(errors="replace").strip() or "it ended without a word"


def standing(run_dir: str, instance: str) -> list[release.Record]:
    """The guards of this instance in this network namespace that live, from an earlier start too."""
    wanted = ("guard", instance, release.netns())
    return [record for record in release.status(run_dir) if (record.role, record.instance, record.netns) == wanted]


def hold(order: Order) -> Tables:
    """Install the rules; they last as long as what is returned. Raises OSError, ValueError, and leaves nothing."""
    record = release.write(order.run_dir, "guard", order.instance, order.table, "closed", order.existing)
    try:
        tables = Tables()
        tables.run(order.rules)
    except BackendError:
        record.unlink()
        raise
    return tables


def main() -> int:
    try:
        tables = hold(Order(**json.load(sys.stdin)))
    except (OSError, ValueError) as error:
        print(error, flush=True)
        return 1
    print("ready", flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    while tables:
        signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
