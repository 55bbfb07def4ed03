"""The loopback server, and that its clients notice what is wrong."""

import socket
import ssl

import pytest

from certs import verify
from certs.authority import Authority
from certs.command import StoreError


def test_server(authority: Authority):
    """It answers one client after another, also after one that speaks no TLS."""
    context = ssl.create_default_context(cafile=authority.pem_path)
    with verify.serving(authority) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(b"garbage\r\n\r\n")
        for _ in range(2):
            with (
                socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw,
                context.wrap_socket(raw, server_hostname="localhost") as tls,
            ):
                tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert tls.recv(100).startswith(b"HTTP/1.1 200")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port))


@pytest.mark.parametrize("client", [verify.curl, verify.python, lambda server: verify.nss(server, {})])
def test_clients_refuse_a_root_that_is_not_installed(authority: Authority, client, monkeypatch: pytest.MonkeyPatch):
    """Variables of the caller that name our root do not help."""
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(authority.pem_path))
    with verify.serving(authority) as server, pytest.raises(StoreError):
        client(server)
