"""A server of the tests: whoever connects to a port on loopback is handed on, in a thread of its own."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def accepting(meet: Callable[[socket.socket], Callable[[], None]]) -> Iterator[int]:
    """Yield the port.  `meet` is called with each connection, in the order in which they come; what it returns runs
    in the connection's own thread, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, meet), daemon=True).start()
        yield listener.getsockname()[1]
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, meet: Callable[[socket.socket], Callable[[], None]]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=meet(client), daemon=True).start()
