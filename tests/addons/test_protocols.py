"""Protocols by offer, port and first bytes."""

import pytest

from addons.protocols import by_bytes, by_offer


@pytest.mark.parametrize(
    ("alpn", "port", "expected"),
    [
        ((), 443, ("", 0)), (("h2", "http/1.1"), 443, ("", 0)), (("imap",), 443, ("imap", 1)),
        ((), 22, ("ssh", 0.5)), (("h2",), 22, ("", 0)), ((), 4242, ("", 0)),
    ],
)  # fmt: skip
def test_offer(alpn: tuple[str, ...], port: int, expected: tuple[str, float]) -> None:
    assert by_offer(alpn, port) == expected


@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", b"", "ssh"), (b"", b"SSH-2.0-x", "ssh"), (b"EHLO me\r\n", b"", "smtp"),
        (b"", b"220 mx.example ESMTP Postfix", "smtp"), (b"", b"220 ProFTPD", "ftp"), (b"", b"* OK IMAP4rev1", "imap"),
        (b"\x10\x16\0\x04MQTT\x04\x02", b"", "mqtt"), (b"*1\r\n$4\r\nPING", b"", "redis"), (b"\x16\x03\x01\x02\0", b"", "tls"),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", b"", "postgresql"), (b"", b"J\0\0\0\x0a8.0.36\0", "mysql"),
        (b"\x13BitTorrent protocol", b"", "bittorrent"), (b"<stream:stream to='x'>", b"", "xmpp"), (b"GET / HTTP/1.1", b"", ""),
        (b"", b"", ""), (b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\1\0\x08\0\3", b"", "rdp"),
    ],
)  # fmt: skip
def test_bytes(client: bytes, server: bytes, expected: str) -> None:
    assert by_bytes(client, server) == expected
