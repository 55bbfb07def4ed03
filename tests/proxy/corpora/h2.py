"""HTTP/2 messages: lists of fields as they go into a frame, and what must become of them (RFC 9113, 8)."""

type Fields = list[tuple[bytes, bytes]]

PSEUDO: dict[bytes, bytes] = {b":method": b"GET", b":scheme": b"https", b":authority": b"origin.test", b":path": b"/"}


def fields(*more: tuple[bytes, bytes], **changed: bytes | None) -> Fields:
    """The pseudo-header fields, some of them changed or left out, and more."""
    pseudo = {**PSEUDO, **{f":{name}".encode(): value for name, value in changed.items()}}
    return [(name, value) for name, value in pseudo.items() if value is not None] + list(more)


#: Refused, by an answer of ours or by the end of the stream or the connection; the origin sees nothing.
REFUSED: dict[str, Fields] = {
    "no :method": fields(method=None),
    "no :scheme": fields(scheme=None),
    "no :path": fields(path=None),
    "empty :path": fields(path=b""),
    "neither :authority nor host": fields(authority=None),
    "empty :authority": fields(authority=b""),
    ":path twice": fields((b":path", b"/other")),
    ":method after a field": [(b":scheme", b"https"), (b":authority", b"origin.test"), (b":path", b"/"), (b"x", b"y"),
                              (b":method", b"GET")],
    "unknown pseudo-header": fields((b":x", b"y")),
    ":status in a request": fields((b":status", b"200")),
    ":protocol without CONNECT": fields((b":protocol", b"websocket")),
    # injection, were it written as HTTP/1
    **{f"{what} in a value": fields((b"x", b"a" + byte + b"b")) for what, byte in (
        ("NUL", b"\0"), ("CR", b"\r"), ("LF", b"\n"), ("CRLF", b"\r\nhost: other.test"), ("bell", b"\7"), ("DEL", b"\x7f"),
        ("vertical tab", b"\x0b"))},
    **{f"{what} in a name": fields((b"x" + byte + b"y", b"a")) for what, byte in (
        ("NUL", b"\0"), ("CR", b"\r"), ("LF", b"\n"), ("CRLF", b": a\r\nhost"), ("space", b" "), ("colon", b":"),
        ("capital", b"A"), ("bracket", b"("), ("e with an accent", b"\xe9"))},
    **{f"{what} in :path": fields(path=b"/a" + byte + b"b") for what, byte in (
        ("NUL", b"\0"), ("CR", b"\r"), ("LF", b"\n"), ("CRLF", b" HTTP/1.1\r\nhost: other.test\r\nx:"), ("space", b" "),
        ("tab", b"\t"), ("form feed", b"\x0c"), ("DEL", b"\x7f"), ("number sign", b"#"))},
    **{f"{what} in :method": fields(method=b"GET" + byte + b"x") for what, byte in (
        ("NUL", b"\0"), ("CRLF", b" / HTTP/1.1\r\nhost: other.test\r\n\r\n"), ("space", b" /admin HTTP/1.1"), ("tab", b"\t"),
        ("colon", b":"))},
    "empty :method": fields(method=b""),
    **{f":authority {value!r}": fields(authority=value) for value in (
        b"origin.test@other.test", b"origin.test/x", b"origin.test other.test", b"origin.test\tother.test", b"origin.test#",
        b"origin.test:x", b"origin.test:99999", b"origin.t\xc3\xa9st", b"other.test", b"origin.test:80", b"origin.test,other.test")},
    **{f":scheme {value!r}": fields(scheme=value) for value in (b"", b"ftp", b"https://other.test/?", b"https ", b"HTTPS:")},
    ":path without a slash": fields(path=b"x"),
    ":path that is a URI": fields(path=b"https://other.test/"),
    ":path * with GET": fields(path=b"*"),
    "value with a space before": fields((b"x", b" y")),
    "value with a space after": fields((b"x", b"y ")),
    "empty name": fields((b"", b"y")),
    # what HTTP/2 has no place for
    "connection": fields((b"connection", b"close")),
    "proxy-connection": fields((b"proxy-connection", b"keep-alive")),
    "keep-alive": fields((b"keep-alive", b"timeout=5")),
    "upgrade": fields((b"upgrade", b"websocket")),
    "transfer-encoding": fields((b"transfer-encoding", b"chunked"), method=b"POST"),
    "te: gzip": fields((b"te", b"gzip")),
    "te: trailers, gzip": fields((b"te", b"trailers, gzip")),
    # hosts
    "host against :authority": fields((b"host", b"other.test")),
    "host twice": fields((b"host", b"origin.test"), (b"host", b"origin.test")),
    "host of another": fields((b"host", b"other.test"), authority=None),
    "CONNECT": [(b":method", b"CONNECT"), (b":authority", b"origin.test:443")],
    "CONNECT with a path": fields(method=b"CONNECT"),
    "connect, not CONNECT": fields(method=b"connect"),
    "extended CONNECT": fields((b":protocol", b"websocket"), method=b"CONNECT"),
    # lengths
    **{f"length {value!r}": fields((b"content-length", value), method=b"POST") for value in (
        b"-1", b"+0", b"0x0", b"00", b"", b"0, 0", b"five", b"9" * 30)},
    "two lengths": fields((b"content-length", b"0"), (b"content-length", b"0"), method=b"POST"),
    "a length and no body": fields((b"content-length", b"5")),
    "expect: something": fields((b"expect", b"200-ok")),
}

#: Bodies that are not what was announced: the length, the frames.  The origin never sees the request complete.
WRONG_BODIES: dict[str, tuple[bytes, list[bytes]]] = {
    "shorter": (b"10", [b"hello"]),
    "longer": (b"3", [b"hello"]),
    "longer, in two": (b"5", [b"hello", b"more"]),
    "none": (b"5", [b""]),
    "some where none is": (b"0", [b"hello"]),
}

#: Passed on: what is sent, and fields that the origin gets.
FORWARDED: dict[str, tuple[Fields, Fields]] = {
    "plain": (fields(), fields()),
    "host alone": (fields((b"host", b"origin.test"), authority=None), [(b"host", b"origin.test")]),
    "te: trailers": (fields((b"te", b"trailers")), [(b"te", b"trailers")]),
    "cookies in pieces": (fields((b"cookie", b"a=b"), (b"cookie", b"c=d")), [(b"cookie", b"a=b; c=d")]),
    "scheme of the other kind": (fields(scheme=b"http"), [(b":scheme", b"https")]),
    "odd method": (fields(method=b"M-SEARCH"), [(b":method", b"M-SEARCH")]),
    "asterisk": (fields(method=b"OPTIONS", path=b"*"), [(b":path", b"*")]),
    "early-data": (fields((b"early-data", b"1")), [(b"early-data", b"1")]),
}

#: Heads of responses that are none: the client gets a page, or the end of its stream.
BAD_RESPONSES: dict[str, Fields] = {
    "no :status": [(b"x", b"y")],
    ":status twice": [(b":status", b"200"), (b":status", b"200")],
    ":status in words": [(b":status", b"ok")],
    ":status 2_0": [(b":status", b"2_0")],
    ":status of four digits": [(b":status", b"2000")],
    ":status after a field": [(b"x", b"y"), (b":status", b"200")],
    ":path in a response": [(b":status", b"200"), (b":path", b"/")],
    "capitals": [(b":status", b"200"), (b"Set-Cookie", b"a=b")],
    "CRLF in a value": [(b":status", b"200"), (b"x", b"y\r\nset-cookie: a=b")],
    "NUL in a value": [(b":status", b"200"), (b"x", b"y\0")],
    "space in a name": [(b":status", b"200"), (b"x y", b"z")],
    "bracket in a name": [(b":status", b"200"), (b"x(y", b"z")],
    "transfer-encoding": [(b":status", b"200"), (b"transfer-encoding", b"chunked")],
    "two lengths": [(b":status", b"200"), (b"content-length", b"5"), (b"content-length", b"5")],
    "length with a sign": [(b":status", b"200"), (b"content-length", b"+5")],
    "101": [(b":status", b"101"), (b"upgrade", b"websocket")],
}
