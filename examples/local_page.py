"""Answer every request by one page: sudo lockgate redirect --ports 80 --to 127.0.0.1:55555

Run it by any user: python examples/local_page.py 55555. It knows where its clients wanted to go, as the kernel does.
"""
import socket
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SO_ORIGINAL_DST = 80        # <linux/netfilter_ipv4.h>; the same number for IPv6, at the level IPPROTO_IPV6


def original(sock: socket.socket) -> tuple[str, int]:
    """Where the client dialled, before the kernel led it here: address and port."""
    if sock.family == socket.AF_INET6:
        port, packed = struct.unpack_from("!2xH4x16s", sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, 28))
        return socket.inet_ntop(socket.AF_INET6, packed), port
    port, packed = struct.unpack_from("!2xH4s", sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16))
    return socket.inet_ntoa(packed), port


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        host, port = original(self.connection)
        page = f"You wanted {self.headers['host']}, at {host} port {port}. This is another page.\n".encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
