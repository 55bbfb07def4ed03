"""An origin with post-quantum groups: port, PEM file with certificate and key.  Each request is answered, and the last."""

import contextlib
import socket
import sys
import threading

from OpenSSL import SSL

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\nconnection: close\r\n\r\nhello from the origin"


def serve(sock: socket.socket) -> None:
    with sock, contextlib.suppress(SSL.Error):
        connection = SSL.Connection(context, sock)
        connection.set_accept_state()
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(65536)
        connection.sendall(ANSWER)
        connection.shutdown()


context = SSL.Context(SSL.TLS_SERVER_METHOD)
context.use_certificate_chain_file(sys.argv[2])
context.use_privatekey_file(sys.argv[2])
with socket.create_server(("", int(sys.argv[1]))) as listener:
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
