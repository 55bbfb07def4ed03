"""A stand-in for a worker that is asked for its connections."""

import contextlib
import json
import socket
import threading

from proxy import sessions

ROW = {"id": 1, "client": ["192.0.2.1", 5000], "server": ["192.0.2.9", 443], "local": ["127.0.0.1", 8080],
       "host": "a.example", "tls": True, "verdict": "inspect", "started": 1.5, "ended": None, "labels": ["ads"],
       "process": {"pid": 7, "exe": "/usr/bin/curl", "user": "me"}}
HEAD = b'{"listen":[["127.0.0.1",8080]],"ended":3,"dialled":4}\n'
END = b'{"end":true}\n'


def line(**more):
    return json.dumps(ROW | more).encode() + b"\n"


class Answering:
    """Listens as a worker does and sends what it is told to."""

    def __init__(self, folder, answer, stay=False, drip=b""):
        self.asked = []
        self._server = socket.socket(socket.AF_UNIX)
        with sessions.reached(folder) as name:
            self._server.bind(f"{name}/connections-1.sock")
        self._server.listen()
        self.answer, self._stay, self._drip = answer, stay, drip
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._server.accept()
                with peer, contextlib.suppress(OSError, ValueError):
                    self.asked.append(json.loads(peer.recv(4096)))
                    peer.sendall(self.answer)
                    while self._drip and not self._done.wait(0.005):
                        peer.sendall(self._drip)
                    if self._stay:
                        self._done.wait(20)

    def close(self):
        self._done.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)
