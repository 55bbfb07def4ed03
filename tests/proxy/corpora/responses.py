"""HTTP/1.1 responses: those that are good, those that have more than one reading, and those that are cut short.

`POISON` follows some: bytes that must never become the answer to another request.
"""

OK = b"HTTP/1.1 200 OK\r\n"
POISON = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"
HELLO = OK + b"content-length: 5\r\n\r\nhello"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def fields(*lines: str, body: bytes = b"hello") -> bytes:
    return OK + "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + body


#: Good, or careless in a way that has one meaning: bytes, status and body.  The connection stays open.
WHOLE: dict[str, tuple[bytes, int, bytes]] = {
    "a length": (HELLO, 200, b"hello"),
    "chunks": (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", 200, b"hello"),
    "chunk extensions": (CHUNKED + b"5;a=b\r\nhello\r\n0;c\r\n\r\n", 200, b"hello"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\ncontent-length: 9\r\n\r\n", 200, b"hello"),
    "coding in capitals": (fields("Transfer-Encoding: CHUNKED", body=b"5\r\nhello\r\n0\r\n\r\n"), 200, b"hello"),
    "no body": (OK + b"content-length: 0\r\n\r\n", 200, b""),
    "no reason": (HELLO.replace(b" OK", b""), 200, b"hello"),
    "empty reason": (HELLO.replace(b" OK", b" "), 200, b"hello"),
    "reason that is not ASCII": (HELLO.replace(b"OK", b"\xe9"), 200, b"hello"),
    "unusual status": (HELLO.replace(b"200", b"299"), 299, b"hello"),
    "blank line before it": (b"\r\n" + HELLO, 200, b"hello"),
    "bare LF": (HELLO.replace(b"\r\n", b"\n"), 200, b"hello"),
    "equal lengths": (fields("content-length: 5", "content-length: 5"), 200, b"hello"),
    "equal lengths in a list": (fields("content-length: 5, 5"), 200, b"hello"),
    "folded": (fields("x: a", " b", "content-length: 5"), 200, b"hello"),
    "space before a colon": (fields("content-length : 5"), 200, b"hello"),
    "100": (b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO, 200, b"hello"),
    "102": (b"HTTP/1.1 102 Processing\r\n\r\n" + HELLO, 200, b"hello"),
    "103": (b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n" + HELLO, 200, b"hello"),
    "103 with a length": (b"HTTP/1.1 103 Early Hints\r\ncontent-length: 99\r\n\r\n" + HELLO, 200, b"hello"),
    "1xx that nobody knows": (b"HTTP/1.1 199 What\r\n\r\n" + HELLO, 200, b"hello"),
    "many 1xx": (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100 + HELLO, 200, b"hello"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "204 with a length": (b"HTTP/1.1 204 No Content\r\ncontent-length: 51\r\n\r\n" + POISON, 204, b""),
    "204 with chunks": (b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 204, b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, b""),
    "304 with chunks": (b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n", 304, b""),
    "304 with a body": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 51\r\n\r\n" + POISON, 304, b""),
    "longer than its length": (HELLO + b"garbage", 200, b"hello"),
    "another response after it": (HELLO + POISON, 200, b"hello"),
    "another response after chunks": (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + POISON, 200, b"hello"),
    "Connection: Close": (fields("Connection: Close", "content-length: 5"), 200, b"hello"),
}

#: The end of the connection is the end of the body.
UNTIL_THE_END: dict[str, bytes] = {
    "HTTP/1.1": OK + b"\r\nhello",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "identity": fields("transfer-encoding: identity"),
    "after 103": b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"\r\nhello",
}

#: More than one reading, or none: the client gets a page of ours.
REFUSED: dict[str, bytes] = {
    **{f"status {code}": HELLO.replace(b"200", code) for code in (
        b"20", b"2000", b"+200", b"2_0", b"0200", b"099", b"abc", b"-20", b"", b"2 00")},
    **{f"length {value[:20]!r}": fields(f"content-length: {value}") for value in (
        "+5", "-5", "5 5", "5, 6", "0x5", "5a", "1_0", "five", "9" * 5000)},
    **{f"coding {value!r}": fields(f"transfer-encoding: {value}", body=b"5\r\nhello\r\n0\r\n\r\n") for value in (
        "xchunked", "gzip, chunked", "chunked, gzip", "gzip", "chunked, chunked", '"chunked"', "chunked;x", "\x0bchunked")},
    "two codings": fields("transfer-encoding: chunked", "transfer-encoding: identity"),
    "length and coding": fields("content-length: 5", "transfer-encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
    "two lengths": fields("content-length: 5", "content-length: 4"),
    "coding in HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + b"5\r\nhello\r\n0\r\n\r\n",
    "HTTP/2.0": HELLO.replace(b"1.1", b"2.0"),
    "no version": HELLO.replace(b"HTTP/1.1", b"ICY"),
    "no space": HELLO.replace(b" 200", b"200"),
    "nonsense": b"nonsense\r\n\r\n",
    "NUL in the reason": HELLO.replace(b"OK", b"O\0K"),
    "bare CR in the reason": HELLO.replace(b"OK", b"O\rK: y"),
    "NUL in a field": fields("x: a\0b", "content-length: 5"),
    "bare CR in a field": fields("x: a\rset-cookie: b", "content-length: 5"),
    "bare CR at a field's end": fields("x: a\r", "content-length: 5"),
    "no colon": fields("nonsense", "content-length: 5"),
    "empty name": fields(": x", "content-length: 5"),
    "space in a name": fields("x y: z", "content-length: 5"),
    "space before the first field": fields(" x: y", "content-length: 5"),
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n" + POISON,
    "101 to WebSocket unasked": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
}

#: The origin closes, or resets, after these: what came is not all, and the client must be able to tell.
CUT: dict[str, bytes] = {
    "short of its length": fields("content-length: 50"),
    "within a chunk": CHUNKED + b"50\r\nhello",
    "between chunks": CHUNKED + b"5\r\nhello\r\n",
    "within a chunk's size": CHUNKED + b"5\r\nhello\r\n5",
    "before the last line": CHUNKED + b"5\r\nhello\r\n0\r\n",
    "within the trailers": CHUNKED + b"5\r\nhello\r\n0\r\nx: y\r\n",
    "chunk too long": CHUNKED + b"4\r\nhello\r\n0\r\n\r\n",
    "chunk too short": CHUNKED + b"5\r\nhello\r\n6\r\nhello\r\n0\r\n\r\n" + POISON,
    "chunk with a sign": CHUNKED + b"5\r\nhello\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk with 0x": CHUNKED + b"5\r\nhello\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "broken trailer": CHUNKED + b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
}
