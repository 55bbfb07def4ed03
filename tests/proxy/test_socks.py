"""SOCKS, byte by byte: the same message whatever the pieces it comes in, and nothing taken of what follows."""

import pytest

from proxy import socks
from proxy.socks import Malformed, Reply

IPV4 = b"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb"
IPV6 = b"\x05\x01\x00\x04" + bytes.fromhex("20010db8000000000000000000000007") + b"\x00\x50"
NAME = b"\x05\x01\x00\x03\x0borigin.test\x01\xbb"


@pytest.mark.parametrize(("read", "raw", "expected"), [
    pytest.param(socks.greeting, b"\x05\x01\x00", (b"\x00",), id="no authentication"),
    pytest.param(socks.greeting, b"\x05\x03\x00\x01\x02", (b"\x00\x01\x02",), id="three methods"),
    pytest.param(socks.greeting, b"\x05\x00", (b"",), id="no method at all"),
    pytest.param(socks.login, b"\x01\x02me\x03abc", (b"me", b"abc"), id="password"),
    pytest.param(socks.login, b"\x01\x00\x00", (b"", b""), id="empty name and password"),
    pytest.param(socks.login, b"\x01\xff" + b"u" * 255 + b"\xff" + b"p" * 255, (b"u" * 255, b"p" * 255), id="longest"),
    pytest.param(socks.request, IPV4, ("192.0.2.7", 443), id="IPv4"),
    pytest.param(socks.request, IPV6, ("2001:db8::7", 80), id="IPv6"),
    pytest.param(socks.request, NAME, ("origin.test", 443), id="name"),
    pytest.param(socks.request, b"\x05\x01\x00\x03\x00\x01\xbb", ("", 443), id="empty name"),
    pytest.param(socks.request, b"\x05\x01\x00\x03\xff" + b"a" * 255 + b"\0\1", ("a" * 255, 1), id="longest name"),
    pytest.param(socks.request4, b"\x04\x01\x01\xbb\xc0\x00\x02\x07me\0", ("192.0.2.7", 443), id="version 4"),
    pytest.param(socks.request4, b"\x04\x01\x01\xbb\xc0\x00\x02\x07\0", ("192.0.2.7", 443), id="version 4, no user"),
    pytest.param(socks.request4, b"\x04\x01\0\x50\0\0\0\x01me\0origin.test\0", ("origin.test", 80), id="4a"),
    pytest.param(socks.request4, b"\x04\x01\0\x50\0\0\0\0\0", ("0.0.0.0", 80), id="4, the address of nobody"),
])
def test_read(read, raw, expected):
    for end in range(len(raw)):
        assert read(raw[:end]) is None, f"complete after {end} of {len(raw)} bytes"
    for behind in (b"", b"\x16\x03\x01", b"\0" * 300):
        message = read(raw + behind)
        assert message[:-1] == expected
        assert message.size == len(raw)


@pytest.mark.parametrize(("read", "raw", "reply"), [
    pytest.param(socks.request, b"\x05\x02" + IPV4[2:], Reply.NO_SUCH_COMMAND, id="BIND"),
    pytest.param(socks.request, b"\x05\x03" + NAME[2:], Reply.NO_SUCH_COMMAND, id="UDP ASSOCIATE"),
    pytest.param(socks.request, b"\x05\x00" + IPV4[2:], Reply.NO_SUCH_COMMAND, id="no command"),
    pytest.param(socks.request, b"\x05\x01\x00\x02" + IPV4[4:], Reply.NO_SUCH_ADDRESS_KIND, id="a kind of no address"),
    pytest.param(socks.request, b"\x04" + IPV4[1:], Reply.FAILED, id="another version"),
    pytest.param(socks.request, b"\x05\x01\x00\x03\x02\xc3\xa4\x01\xbb", Reply.FAILED, id="not ASCII"),
    pytest.param(socks.request4, b"\x04\x02\0\x50\xc0\0\2\7\0", Reply.NO_SUCH_COMMAND, id="BIND, version 4"),
    pytest.param(socks.request4, b"\x04\x01\0\x50\xc0\0\2\7" + b"u" * 256, Reply.FAILED, id="a user without end"),
    pytest.param(socks.request4, b"\x04\x01\0\x50\0\0\0\1\0" + b"a" * 256, Reply.FAILED, id="a name without end"),
    pytest.param(socks.login, b"\x05\x02me\x03abc", Reply.FAILED, id="another version of passwords"),
])
def test_refused(read, raw, reply):
    with pytest.raises(Malformed) as caught:
        read(raw)
    assert caught.value.reply == reply


def test_answers():
    """RFC 1928, 3 and 6; RFC 1929, 2; the memo of version 4."""
    assert socks.method(socks.NONE_ACCEPTABLE) == b"\x05\xff"
    assert socks.logged_in(welcome=True) == b"\x01\x00"
    assert socks.logged_in(welcome=False)[1] != 0
    assert socks.answer(Reply.NOT_ALLOWED) == b"\x05\x02\x00\x01\0\0\0\0\0\0"
    assert socks.answer4(Reply.DONE) == b"\0\x5a" + bytes(6)
    assert socks.answer4(Reply.NOT_ALLOWED) == b"\0\x5b" + bytes(6)


@pytest.mark.parametrize(("host", "port", "expected"), [
    ("192.0.2.7", 443, IPV4), ("2001:db8::7", 80, IPV6), ("origin.test", 443, NAME),
])
def test_our_request_is_what_we_read(host, port, expected):
    assert socks.our_request(host, port) == expected
    assert socks.request(expected)[:2] == (host, port)


def test_our_other_words_are_what_we_read():
    assert socks.greeting(socks.our_greeting(password=False)).methods == b"\0"
    assert socks.PASSWORD in socks.greeting(socks.our_greeting(password=True)).methods
    assert socks.login(socks.our_login(b"me", b"secret"))[:2] == (b"me", b"secret")


@pytest.mark.parametrize("make", [
    lambda: socks.our_login(b"", b"x"), lambda: socks.our_login(b"x", b"y" * 256),
    lambda: socks.our_request("a" * 256, 1), lambda: socks.our_request("ä.test", 1),
])
def test_what_does_not_fit_is_not_sent(make):
    with pytest.raises(ValueError, match=r"SOCKS|ordinal"):
        make()


@pytest.mark.parametrize("raw", [IPV4, IPV6, NAME], ids=["IPv4", "IPv6", "name"])
def test_the_rest_of_an_answer(raw):
    """Whatever is read of it, what is still asked for never goes beyond its end."""
    raw, taken = b"\x05\x00" + raw[2:], b""
    while missing := socks.rest(taken):
        assert len(taken) + missing <= len(raw)
        taken = raw[: len(taken) + missing]
    assert taken == raw


@pytest.mark.parametrize("raw", [b"HTTP/1.1 400", b"\x05\x00\x00\x07\x00\x00"])
def test_an_answer_that_is_none(raw):
    with pytest.raises(Malformed):
        socks.rest(raw)
