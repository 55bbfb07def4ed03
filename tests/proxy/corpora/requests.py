"""HTTP/1.1 requests.  What could be read as two different things is refused; all else leaves in one normal form.

`SMUGGLED` follows many of them: a request that an origin would see if it read the first one otherwise than we do.
"""

HOST = "host: origin.test"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: origin.test\r\n\r\n"


def head(*lines: str, target: str = "/", method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"{method} {target} {version}", *lines, "", ""]).encode("latin-1")


def post(*lines: str, body: bytes = b"0\r\n\r\n") -> bytes:
    return head(HOST, *lines, method="POST") + body + SMUGGLED


def chunks(body: bytes) -> bytes:
    return post("transfer-encoding: chunked", body=body)


#: The many ways to write a transfer coding that one parser sees and another does not.
TE_OBFUSCATED = {
    "te, te": ("transfer-encoding: chunked", "transfer-encoding: identity"),
    "te twice": ("transfer-encoding: chunked", "transfer-encoding: chunked"),
    "chunked twice": ("transfer-encoding: chunked, chunked",),
    "xchunked": ("transfer-encoding: xchunked",),
    "chunked and more": ("transfer-encoding: chunkedx",),
    "chunked first": ("transfer-encoding: chunked, identity",),
    "space before the colon": ("transfer-encoding : chunked",),
    "tab before the colon": ("transfer-encoding\t: chunked",),
    "vertical tab before it": ("transfer-encoding:\x0bchunked",),
    "form feed after it": ("transfer-encoding: chunked\x0c",),
    "NUL after it": ("transfer-encoding: chunked\0",),
    "bare CR before it": ("transfer-encoding:\rchunked",),
    "bare CR after it": ("transfer-encoding: chunked\r",),
    "quoted": ('transfer-encoding: "chunked"',),
    "with a parameter": ("transfer-encoding: chunked;q=1",),
    "folded": ("transfer-encoding:", " chunked"),
    "folded name": ("x: y", " transfer-encoding: chunked"),
    "after a bare CR": ("x: y\rtransfer-encoding: chunked",),
    "dotless i": ("transfer-encod\xfdng: chunked",),
    "empty element": ("transfer-encoding: , chunked",),
    "empty": ("transfer-encoding:",),
    "identity": ("transfer-encoding: identity",),
    "gzip inside": ("transfer-encoding: gzip, chunked",),
}

LENGTHS = ("+5", "-5", "5 5", "5,5", "5, 6", "0x5", "5a", "1_0", "05", "5.0", "", "five", "\u00b2", "5;x",
           str(2**63), str(2**64 + 5), "9" * 30, "9" * 5000)

#: Refused: status and bytes.  The origin sees nothing at all of these.
REFUSED: dict[str, tuple[int, bytes]] = {
    **{f"te: {name}": (400, post(*lines)) for name, lines in TE_OBFUSCATED.items()},
    **{f"te with cl: {name}": (400, post("content-length: 5", *lines)) for name, lines in TE_OBFUSCATED.items()},
    **{f"cl: {value[:20]!r}": (400, post(f"content-length: {value}", body=b"hello")) for value in LENGTHS},
    "cl.te": (400, post("content-length: 5", "transfer-encoding: chunked")),
    "te.cl": (400, post("transfer-encoding: chunked", "content-length: 5")),
    "cl twice, equal": (400, post("content-length: 5", "content-length: 5", body=b"hello")),
    "cl twice, different": (400, post("content-length: 5", "content-length: 50", body=b"hello")),
    "cl with a space in its name": (400, post("content length: 5", body=b"hello")),
    "cl folded": (400, post("content-length:", " 5", body=b"hello")),
    "te in HTTP/1.0": (400, head(HOST, "transfer-encoding: chunked", method="POST", version="HTTP/1.0") + b"0\r\n\r\n"),
    # lines
    "folded": (400, head(HOST, "x: a", " b")),
    "folded by a tab": (400, head(HOST, "x: a", "\tb")),
    "space before the first field": (400, head(" x: y", HOST)),
    "tab before the first field": (400, head("\tx: y", HOST)),
    "space before the colon": (400, head(HOST, "x : y")),
    "empty name": (400, head(HOST, ": y")),
    "no colon": (400, head(HOST, "xy")),
    "name with a NUL": (400, head(HOST, "x\0y: z")),
    "name that is not ASCII": (400, head(HOST, "x\xe9: z")),
    "name with brackets": (400, head(HOST, "x(y): z")),
    "NUL in a value": (400, head(HOST, "x: a\0b")),
    "bare CR in a value": (400, head(HOST, "x: a\rb")),
    "bare CR at a line's end": (400, head(HOST, "x: a\r")),
    "bell in a value": (400, head(HOST, "x: a\x07b")),
    "DEL in a value": (400, head(HOST, "x: a\x7fb")),
    "vertical tab in a value": (400, head(HOST, "x: a\x0bb")),
    "two hosts by a bare LF": (400, head(HOST, "x: a\nhost: other.test")),
    # the request line
    "NUL in the target": (400, head(HOST, target="/a\0b")),
    "bare CR in the target": (400, head(HOST, target="/a\rb")),
    "tab in the target": (400, head(HOST, target="/a\tb")),
    "vertical tab in the target": (400, head(HOST, target="/a\x0bb")),
    "DEL in the target": (400, head(HOST, target="/a\x7fb")),
    "space in the target": (400, head(HOST, target="/a b")),
    "fragment in the target": (400, head(HOST, target="/a#b")),
    "no target": (400, head(HOST, target="")),
    "target without a slash": (400, head(HOST, target="a")),
    "two spaces before the target": (400, head(HOST, method="GET ")),
    "two spaces after it": (400, head(HOST, target="/ ")),
    "tab for a space": (400, b"GET\t/\tHTTP/1.1\r\nhost: origin.test\r\n\r\n"),
    "CR for a space": (400, b"GET\r/ HTTP/1.1\r\nhost: origin.test\r\n\r\n"),
    "form feed for a space": (400, b"GET / \x0cHTTP/1.1\r\nhost: origin.test\r\n\r\n"),
    "space before the method": (400, head(HOST, method=" GET")),
    "CR before the method": (400, head(HOST, method="\rGET")),
    "space after the version": (400, head(HOST, version="HTTP/1.1 ")),
    "asterisk with GET": (400, head(HOST, target="*")),
    "authority with GET": (400, head(HOST, target="origin.test:443")),
    "host alone as the target": (400, head(HOST, target="origin.test")),
    "method with a bracket": (400, head(HOST, method="G(T")),
    "method that is not ASCII": (400, head(HOST, method="G\xc9T")),
    "NUL in the method": (400, head(HOST, method="GET\0")),
    "connect, not CONNECT": (400, head(HOST, method="connect")),
    "CONNECT": (400, head(HOST, method="CONNECT", target="origin.test:443")),
    "CONNECT with a path": (400, head(HOST, method="CONNECT", target="/")),
    "PRI": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "HTTP/2.0": (505, head(HOST, version="HTTP/2.0")),
    "HTTP/1.2": (505, head(HOST, version="HTTP/1.2")),
    "HTTP/1.10": (400, head(HOST, version="HTTP/1.10")),
    "HTTP/1": (400, head(HOST, version="HTTP/1")),
    "http/1.1": (400, head(HOST, version="http/1.1")),
    "HTTP 1.1": (400, head(HOST, version="HTTP 1.1")),
    "no version but a word": (400, head(HOST, version="nonsense")),
    "long method": (431, b"G" * 100_000 + b" / HTTP/1.1\r\nhost: origin.test\r\n\r\n"),
    # the host
    "two hosts": (400, head(HOST, HOST)),
    "two different hosts": (400, head(HOST, "host: other.test")),
    "no host": (400, head()),
    "no host but in absolute form": (400, head(target="https://origin.test/")),
    "no host in HTTP/1.0": (400, head(version="HTTP/1.0")),
    "empty host": (400, head("host:")),
    "another host: domain fronting": (421, head("host: other.test")),
    "host with a space": (400, head("host: origin.test other.test")),
    "host with a comma": (400, head("host: origin.test, other.test")),
    "host with user information": (400, head("host: origin.test@other.test")),
    "host with a path": (400, head("host: origin.test/x")),
    "host with a query": (400, head("host: origin.test?x")),
    "host with a backslash": (400, head("host: origin.test\\x")),
    "host with another port": (421, head("host: origin.test:80")),
    "host with a port that is none": (400, head("host: origin.test:x")),
    "host in quotes": (400, head('host: "origin.test"')),
    "host with a space before the colon": (400, head("host : origin.test")),
    "host in a folded line": (400, head("x: y", " host: origin.test")),
    "host against absolute form": (400, head("host: other.test", target="https://origin.test/")),
    "absolute form against host": (400, head(HOST, target="https://other.test/")),
    "absolute form of another host": (421, head("host: other.test", target="https://other.test/")),
    "absolute form with user information": (400, head(HOST, target="https://origin.test@other.test/")),
    "absolute form in clear": (400, head(HOST, target="http://origin.test/")),
    "absolute form of another scheme": (400, head(HOST, target="ftp://origin.test/")),
    "absolute form without a host": (400, head(HOST, target="https:///x")),
    # fields that speak of the connection
    "connection: host": (400, head(HOST, "connection: host")),
    "connection: connection": (400, head(HOST, "connection: connection")),
    "connection: content-length": (400, post("content-length: 5", "connection: close, content-length", body=b"hello")),
    "connection: transfer-encoding": (400, post("transfer-encoding: chunked", "connection: Transfer-Encoding")),
    "connection: nonsense": (400, head(HOST, "connection: (x)")),
    "expect: something": (417, post("content-length: 5", "expect: 200-ok", body=b"hello")),
    "expect: obfuscated": (417, post("content-length: 5", "expect: y 100-continue", body=b"hello")),
    "expect twice": (417, post("content-length: 5", "expect: 100-continue", "expect: x", body=b"hello")),
    "websocket without a key": (400, head(
        HOST, "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13")),
    "websocket with a short key": (400, head(
        HOST, "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: AAAA")),
    "websocket whose key is of the hop": (400, head(
        HOST, "connection: upgrade, sec-websocket-key", "upgrade: websocket", "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")),
    "websocket of another version": (400, head(
        HOST, "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 8",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")),
    "websocket by POST": (400, head(
        HOST, "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "content-length: 0", method="POST")),
    "websocket with a body": (400, head(
        HOST, "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "content-length: 5") + b"hello"),
}

#: Bodies that turn out broken when the head has gone: the origin never sees the request complete, nor another one.
BROKEN_BODIES: dict[str, bytes] = {
    "size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "bare CR after the size": b"5\rhello\r\n0\r\n\r\n",
    "bare LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "size too large": b"fffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "size that is no number": b"five\r\nhello\r\n0\r\n\r\n",
    "data too long": b"4\r\nhello\r\n0\r\n\r\n",
    "data too short": b"6\r\nhello\r\n0\r\n\r\n",
    "LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "trailers with a length": b"5\r\nhello\r\n0\r\ncontent-length: 50\r\ncontent-length: 5\r\n\r\n",
    "trailers with a coding": b"5\r\nhello\r\n0\r\ntransfer-encoding: x\r\n\r\n",
    "broken trailer": b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
    "space before a trailer's colon": b"5\r\nhello\r\n0\r\nx : y\r\n\r\n",
}

#: The origin's bytes for those that pass.
OK_HEAD = b"GET / HTTP/1.1\r\nhost: origin.test\r\n\r\n"
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nhost: origin.test\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKED = CHUNKED_HEAD + b"5\r\nhello\r\n0\r\n\r\n"
LENGTH = b"POST / HTTP/1.1\r\nhost: origin.test\r\ncontent-length: 5\r\n\r\nhello"


def chunked(body: bytes, *lines: str) -> bytes:
    return head(HOST, "transfer-encoding: chunked", *lines, method="POST") + body


#: Forwarded: what is sent, and exactly what the origin gets.
FORWARDED: dict[str, tuple[bytes, bytes]] = {
    "plain": (OK_HEAD, OK_HEAD),
    "with a length": (LENGTH, LENGTH),
    "with chunks": (CHUNKED, CHUNKED),
    "coding in capitals": (CHUNKED.replace(b": chunked", b": CHUNKED"), CHUNKED),
    "two blank lines before": (b"\r\n\r\n" + OK_HEAD, OK_HEAD),
    "bare LF": (OK_HEAD.replace(b"\r\n", b"\n"), OK_HEAD),
    "spaces round a value": (OK_HEAD.replace(b": origin.test", b": \t origin.test \t "), OK_HEAD),
    "no space before a value": (OK_HEAD.replace(b": ", b":"), OK_HEAD),
    "chunk extension": (chunked(b'5;a="b\\"";c\r\nhello\r\n0;d\r\n\r\n'), CHUNKED),
    "space after a chunk's size": (chunked(b"5 \r\nhello\r\n0\r\n\r\n"), CHUNKED),
    "zeros before a chunk's size": (chunked(b"0005\r\nhello\r\n000\r\n\r\n"), CHUNKED),
    "trailers": (chunked(b"5\r\nhello\r\n0\r\nx: y\r\n\r\n"), CHUNKED),
    "trailer that names a host": (chunked(b"5\r\nhello\r\n0\r\nhost: other.test\r\n\r\n"), CHUNKED),
    "te: trailers": (head(HOST, "te: trailers", "connection: te"), OK_HEAD),
    "te without connection": (head(HOST, "te: gzip"), OK_HEAD),
    "absolute form": (head(HOST, target="https://origin.test/"), OK_HEAD),
    "absolute form, capitals": (head(HOST, target="HTTPS://origin.test/"), OK_HEAD),
    "asterisk form": (head(HOST, method="OPTIONS", target="*"), head(HOST, method="OPTIONS", target="*")),
    "two slashes": (head(HOST, target="//other.test/"), head(HOST, target="//other.test/")),
    "URI in a path": (head(HOST, target="/http://other.test/"), head(HOST, target="/http://other.test/")),
    "odd method": (head(HOST, method="M-SEARCH"), head(HOST, method="M-SEARCH")),
    "patch, as browsers send it": (head(HOST, method="patch"), head(HOST, method="patch")),
    "bytes that are not ASCII": (head(HOST, "x: \xe9\xff"),
                                 head(HOST, "x: \xe9\xff")),
    "tab within a value": (head(HOST, "x: a\tb"), head(HOST, "x: a\tb")),
    "empty value": (head(HOST, "x:"), head(HOST, "x: ")),
    "fields twice": (head(HOST, "x: a", "x: b"), head(HOST, "x: a", "x: b")),
    "GET with a body": (head(HOST, "content-length: 5") + b"hello", head(HOST, "content-length: 5") + b"hello"),
    "POST without a length": (head(HOST, method="POST"), head(HOST, method="POST")),
    "HTTP/1.0": (head(HOST, version="HTTP/1.0"), head(HOST, version="HTTP/1.0")),
    "keep-alive": (head(HOST, "connection: Keep-Alive"), head(HOST, "connection: Keep-Alive")),
    "connection: close": (head(HOST, "connection: close"), head(HOST, "connection: close")),
    "connection, but nothing": (head(HOST, "connection: ,"), head(HOST, "connection: ,")),
    "connection: upgrade to nothing": (head(HOST, "connection: keep-alive, upgrade"), head(HOST, "connection: keep-alive")),
    "connection: Close": (head(HOST, "connection: Close"), head(HOST, "connection: close")),
    "connection: a field of the hop": (head(HOST, "x-hop: 1", "connection: keep-alive, x-hop"),
                                       head(HOST, "connection: keep-alive")),
    "fields for the proxy": (head(HOST, "proxy-connection: keep-alive", "keep-alive: timeout=5",
                                  "proxy-authorization: Basic eDp5"), OK_HEAD),
    "upgrade to h2c": (head(HOST, "connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABk"),
                       OK_HEAD),
    "upgrade to one of several": (head(HOST, "connection: upgrade", "upgrade: websocket, h2c"), OK_HEAD),
    "upgrade without connection": (head(HOST, "upgrade: websocket"), OK_HEAD),
    "expect: 100-continue": (LENGTH.replace(b"content", b"expect: 100-Continue\r\ncontent"), LENGTH),
    "expect without a body": (head(HOST, "expect: 100-continue"), OK_HEAD),
    "early-data": (head(HOST, "early-data: 1"), head(HOST, "early-data: 1")),
}
