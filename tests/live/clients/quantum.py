"""Asks for each URL with an OpenSSL that has post-quantum groups, and says which group was agreed on with us."""

import os
import socket
import sys
from urllib.parse import urlsplit

from OpenSSL import SSL

for url in sys.argv[1:]:
    print("==", url)
    parts = urlsplit(url)
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.load_verify_locations(os.environ["SSL_CERT_FILE"])
    context.set_verify(SSL.VERIFY_PEER)
    with socket.create_connection((parts.hostname, parts.port)) as sock:
        connection = SSL.Connection(context, sock)
        connection.set_tlsext_host_name(parts.hostname.encode())
        connection.set_connect_state()
        connection.do_handshake()
        print("group", connection.get_group_name())
        connection.sendall(f"GET {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n\r\n".encode())
        try:
            while True:
                print(connection.recv(65536).decode())
        except SSL.ZeroReturnError:
            """The end."""
