"""What it costs to learn whose connection it is, among many idle processes: noted by the kernel, or searched in /proc.

    sudo .venv/bin/python bench/identity.py [IDLE [DESCRIPTORS [ROUNDS]]]       default: 500 50 100

Each look-up is of a new connection, noted and searched in turn in the same run, of three kinds: of a process that has
just begun, of one that is older than the idle ones and not among those seen last, and of one that was seen last.
"""

import contextlib
import os
import random
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection

from redirector import owner

Ask = Callable[[], socket.socket]


def connect(address: tuple[str, int], pipe: Connection) -> None:
    """Open a connection each time when asked; end with the pipe."""
    with contextlib.suppress(EOFError):
        while pipe.recv():
            sock = socket.create_connection(address)
            pipe.send(sock.getsockname())
            pipe.recv()
            sock.close()


def idle(descriptors: int, pipe: Connection) -> None:
    os.closerange(3, pipe.fileno())     # what the others have is not this one's
    os.closerange(pipe.fileno() + 1, 4096)
    kept = [os.dup(0) for _ in range(descriptors)]
    with contextlib.suppress(EOFError):
        pipe.recv()
    del kept


@contextlib.contextmanager
def child(work: Callable[..., None], *words: object) -> Iterator[Connection]:
    ours, theirs = Pipe()
    process = Process(target=work, args=(*words, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.kill()
        process.join()


def measure(listener: socket.socket, pipe: Connection, noted: owner.Connects | None) -> float:
    """Seconds for one look-up."""
    pipe.send(True)
    client = pipe.recv()
    accepted, _ = listener.accept()
    owner._connects = noted
    began = time.perf_counter()
    found = owner.find(client, listener.getsockname())
    took = time.perf_counter() - began
    assert found is not None
    assert found.pid is not None
    pipe.send(True)
    accepted.close()
    return took


def show(kind: str, noted: list[float], searched: list[float]) -> None:
    def figures(times: list[float]) -> tuple[float, float]:
        return statistics.median(times) * 1e6, sorted(times)[len(times) * 99 // 100] * 1e6

    (median, p99), (old, old99) = figures(noted), figures(searched)
    print(f"{kind:34} noted {median:6.0f} us, p99 {p99:6.0f}   searched {old:6.0f} us, p99 {old99:6.0f}   "
          f"ratio {median / old:.3f}, p99 {p99 / old99:.3f}", flush=True)


def main() -> int:
    count, descriptors, rounds = (int(word) for word in [*sys.argv[1:], "500", "50", "100"][:3])
    with contextlib.ExitStack() as ends:
        listener = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
        connects = ends.enter_context(owner.Connects())
        address = listener.getsockname()
        old = ends.enter_context(child(connect, address))
        for _ in range(count):
            ends.enter_context(child(idle, descriptors))
        owner.SEARCH_LIMIT = 10.0       # so that the search is measured, and not where it is cut off
        for kind in ("older than the idle, not seen last", "just begun", "seen last"):
            times: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(rounds):
                order = [True, False]
                random.shuffle(order)
                for is_noted in order:
                    if kind != "seen last":
                        owner._recent.clear()
                    with child(connect, address) if kind == "just begun" else contextlib.nullcontext(old) as pipe:
                        times[is_noted].append(measure(listener, pipe, connects if is_noted else None))
            show(kind, times[True], times[False])
    return 0


if __name__ == "__main__":
    sys.exit(main())
