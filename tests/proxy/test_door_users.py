"""The explicit door with names and passwords: what each protocol is asked, and nothing said that helps to guess."""

import asyncio
import base64
import socket

import pytest

from proxy import explicit, socks
from proxy.admission import Admission, hashed, parse

USERS = parse(f"alice:{hashed(b'secret')}\n")
TARGET = socks.our_request("192.0.2.1", 443)


def greet(raw, *, direct=False):
    """The door's answer to a client that sends this: the target, or the status of the refusal; and what it said."""
    async def run():
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            ours.sendall(raw)
            ours.shutdown(socket.SHUT_WR)
            try:
                found = await explicit.greet(theirs, Admission(USERS), direct=direct)
            except explicit.Refusal as error:
                theirs.sendall(error.answer("INCIDENT01"))
                found = error.status
            except explicit.Served as page:
                theirs.sendall(page.answer)
                found = "served"
            theirs.close()
            said = b""
            while more := ours.recv(4096):
                said += more
            return found, said

    return asyncio.run(run())


def connect(user="", scheme="Basic"):
    field = f"proxy-authorization: {scheme} {base64.b64encode(user.encode()).decode()}\r\n" if user else ""
    return f"CONNECT 192.0.2.1:443 HTTP/1.1\r\nhost: a\r\n{field}\r\n".encode()


def login(user, password):
    return b"\x05\x01\x02" + socks.our_login(user, password) + TARGET


@pytest.mark.parametrize("raw", [
    pytest.param(connect("alice:secret"), id="CONNECT"),
    pytest.param(connect("alice:secret").replace(b"CONNECT 192.0.2.1:443", b"GET http://192.0.2.1/"), id="plain"),
    pytest.param(login(b"alice", b"secret"), id="SOCKS 5"),
    pytest.param(b"\x05\x03\x00\x01\x02" + login(b"alice", b"secret")[3:], id="SOCKS 5, other methods too"),
])
def test_let_in(raw):
    target, said = greet(raw)
    assert isinstance(target, explicit.Target)
    assert said in (b"", b"\x05\x02\x01\x00")


@pytest.mark.parametrize(("raw", "last"), [
    pytest.param(connect(), b"", id="CONNECT without"),
    pytest.param(connect("alice:wrong"), b"", id="CONNECT, wrong password"),
    pytest.param(connect("nobody:secret"), b"", id="CONNECT, unknown name"),
    pytest.param(connect("alice:secret", "Bearer"), b"", id="CONNECT, another scheme"),
    pytest.param(b"GET http://192.0.2.1/ HTTP/1.1\r\nhost: a\r\n\r\n", b"", id="plain without"),
    pytest.param(b"GET http://192.0.2.1/ HTTP/1.1\r\nhost: a\r\nauthorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n", b"",
                 id="plain, the origin's password"),
    pytest.param(b"\x05\x01\x00" + TARGET, b"\x05\xff", id="SOCKS 5 without"),
    pytest.param(login(b"alice", b"wrong"), b"\x05\x02\x01\x01", id="SOCKS 5, wrong password"),
    pytest.param(login(b"nobody", b"secret"), b"\x05\x02\x01\x01", id="SOCKS 5, unknown name"),
    pytest.param(b"\x04\x01\0\x50\xc0\0\2\1alice\0", socks.answer4(socks.Reply.FAILED), id="SOCKS 4"),
])
def test_refused(raw, last):
    status, said = greet(raw)
    assert status == 407
    if last:
        assert said == last
        return
    assert said.startswith(b"HTTP/1.1 407 ")
    assert b"\r\nproxy-authenticate: Basic realm=\"lockgate\"" in said
    assert b"alice" not in said


def test_wrong_name_and_wrong_password_look_the_same():
    answers = {greet(connect(each))[1] for each in ("alice:wrong", "nobody:secret")}
    assert len(answers) == 1


@pytest.mark.parametrize("direct", [False, True])
def test_the_pac_is_for_everybody(direct):
    """It has to be read before a name can be given; by `fail: open` clients may go on without us."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        theirs, _ = listener.accept()
        with theirs:
            theirs.setblocking(False)
            ours.sendall(b"GET /proxy.pac HTTP/1.1\r\nhost: a\r\n\r\n")
            with pytest.raises(explicit.Served) as page:
                asyncio.run(explicit.greet(theirs, Admission(USERS), direct=direct))
    assert (b"; DIRECT" in page.value.answer) is direct
