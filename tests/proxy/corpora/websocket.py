"""WebSocket (RFC 6455): handshakes that are none, and frames that must end the connection, with the code that says why."""

import struct

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
REQUEST = (f"GET /ws HTTP/1.1\r\nhost: origin.test\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n"
           f"sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n").encode()


def switch(accept: str | None = ACCEPT, upgrade: str | None = "websocket", connection: str | None = "Upgrade",
           *more: str) -> bytes:
    fields = {"sec-websocket-accept": accept, "upgrade": upgrade, "connection": connection}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, *more, "", ""]).encode()


def extension(value: str) -> bytes:
    return switch(ACCEPT, "websocket", "Upgrade", f"sec-websocket-extensions: {value}")


#: Answers of an origin that open nothing.
REFUSED: dict[str, bytes] = {
    "no accept": switch(None),
    "empty accept": switch(""),
    "another key's accept": switch("AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    "the key itself": switch(KEY),
    "no upgrade": switch(upgrade=None),
    "upgrade to h2c": switch(upgrade="h2c"),
    "no connection": switch(connection=None),
    "connection: close": switch(connection="close"),
    "unknown extension": extension("x-webkit-deflate-frame"),
    "deflate twice": extension("permessage-deflate, permessage-deflate"),
    "deflate and more": extension("permessage-deflate, x"),
    "deflate with a window that zlib cannot do": extension("permessage-deflate; server_max_window_bits=8"),
    "deflate with a window that is no number": extension("permessage-deflate; client_max_window_bits=x"),
    "deflate with an unknown parameter": extension("permessage-deflate; x=1"),
}


def frame(first: int, payload: bytes = b"", *, masked: bool = True, length: bytes | None = None) -> bytes:
    """A frame whose first byte and, if given, length field are as told; the mask is zeros, which changes nothing."""
    size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + struct.pack("!H", len(payload))
    size = length if length is not None else size
    return bytes([first]) + bytes([size[0] | (0x80 if masked else 0)]) + size[1:] + (bytes(4) if masked else b"") + payload


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(0x88, struct.pack("!H", code) + reason)


TEXT, BINARY, MORE = 0x81, 0x82, 0x01
PROTOCOL_ERROR, NOT_UTF_8 = 1002, 1007

#: What a client sends, and the code of the close frame that both get.
BAD_FRAMES: dict[str, tuple[bytes, int]] = {
    "unmasked": (frame(TEXT, b"hello", masked=False), PROTOCOL_ERROR),
    "reserved bit 1": (frame(TEXT | 0x40, b"hello"), PROTOCOL_ERROR),
    "reserved bit 2": (frame(TEXT | 0x20, b"hello"), PROTOCOL_ERROR),
    "reserved bit 3": (frame(TEXT | 0x10, b"hello"), PROTOCOL_ERROR),
    "reserved bit in a ping": (frame(0x89 | 0x40), PROTOCOL_ERROR),
    **{f"opcode {code}": (frame(0x80 | code, b"hello"), PROTOCOL_ERROR) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "ping of 126 bytes": (frame(0x89, b"z" * 126), PROTOCOL_ERROR),
    "close of 126 bytes": (frame(0x88, b"\x03\xe8" + b"z" * 124), PROTOCOL_ERROR),
    "ping in pieces": (frame(0x09, b"a") + frame(0x80, b"b"), PROTOCOL_ERROR),
    "continuation of nothing": (frame(0x80, b"hello"), PROTOCOL_ERROR),
    "a message within a message": (frame(MORE, b"a") + frame(TEXT, b"b"), PROTOCOL_ERROR),
    "length in too many bytes": (frame(TEXT, b"hello", length=b"\x7e\x00\x05"), PROTOCOL_ERROR),
    "length in far too many bytes": (frame(TEXT, b"hello", length=b"\x7f" + struct.pack("!Q", 5)), PROTOCOL_ERROR),
    "negative length": (frame(TEXT, b"hello", length=b"\x7f" + struct.pack("!Q", 1 << 63)), PROTOCOL_ERROR),
    "text that is not UTF-8": (frame(TEXT, b"\xff"), NOT_UTF_8),
    "text cut within a character": (frame(TEXT, b"\xc3"), NOT_UTF_8),
    "surrogates": (frame(TEXT, b"\xed\xa0\x80"), NOT_UTF_8),
    "pieces that are not UTF-8": (frame(MORE, b"\xc3") + frame(0x80, b"("), NOT_UTF_8),
    "close of one byte": (frame(0x88, b"\x03"), PROTOCOL_ERROR),
    "close with a reason that is not UTF-8": (close(1000, b"\xff"), NOT_UTF_8),
    **{f"close {code}": (close(code), PROTOCOL_ERROR) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)},
}

#: Closes that are well formed, and pass as they are.
GOOD_CLOSES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
