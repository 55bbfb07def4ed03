"""Hellos of real clients are recorded by the test itself; malformed ones are built here, byte by byte."""

import os
import random
import shutil
import socket
import ssl
import subprocess
from hashlib import md5, sha256

import pytest

from proxy.hello import MAX_HELLO, BadHello, ClientHello, Incomplete, NotTls, parse


def python_hello(name="host.example", alpn=("h2", "http/1.1")):
    context = ssl.create_default_context()
    context.set_alpn_protocols(list(alpn))
    arriving, leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(arriving, leaving, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return leaving.read()


def recorded(command, **options):
    """Run a client against a loopback port and return the first bytes that it sends, up to a whole hello."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        arguments = [word.format(port=server.getsockname()[1]) for word in command]
        client = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, start_new_session=True, **options)
        try:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                data = b""
                while isinstance(found := parse(data), Incomplete):
                    assert len(data) < found.need, "need must ask for more than there is"
                    data += connection.recv(found.need - len(data))
                return data
        finally:
            os.killpg(client.pid, 9)
            client.wait()


def vector(data, prefix):
    return len(data).to_bytes(prefix) + data


def records(message, size=2**14):
    return b"".join(b"\x16\x03\x01" + vector(message[i : i + size], 2) for i in range(0, len(message), size))


def extension(code, data):
    return code.to_bytes(2) + vector(data, 2)


def server_name(name):
    return extension(0, vector(b"\0" + vector(name, 2), 2))


def message(extensions=b"", ciphers=b"\x13\x01", tail=b""):
    body = b"\x03\x03" + bytes(32) + b"\0" + vector(ciphers, 2) + b"\x01\0" + vector(extensions, 2) + tail
    return b"\x01" + vector(body, 3)


def test_python():
    found = parse(python_hello())
    assert (found.sni, found.sni_invalid, found.alpn, found.ech) == ("host.example", False, ("h2", "http/1.1"), False)
    assert found.versions == (0x0304, 0x0303)
    assert found.legacy_version == 0x0303
    assert 0x1301 in found.ciphers
    assert 29 in found.groups
    assert found.key_shares
    assert set(found.key_shares) <= set(found.groups)


@pytest.mark.parametrize(("command", "sni", "alpn"), [
    pytest.param(["openssl", "s_client", "-connect", "127.0.0.1:{port}", "-servername", "Host.Example", "-alpn", "h2"],
                 "host.example", ("h2",), id="openssl"),
    pytest.param(["openssl", "s_client", "-connect", "127.0.0.1:{port}", "-noservername", "-tls1_2"], None, (),
                 id="openssl without a name"),
    pytest.param(["curl", "-k", "--resolve", "host.example:{port}:127.0.0.1", "https://host.example:{port}/"],
                 "host.example", ("h2", "http/1.1"), id="curl"),
])
def test_recorded(command, sni, alpn):
    found = parse(recorded(command))
    assert (found.sni, found.alpn) == (sni, alpn)
    assert found.ja4.startswith(f"t{'12' if '-tls1_2' in command else '13'}{'d' if sni else 'i'}")


def test_chromium(tmp_path):
    """GREASE everywhere, ECH offered, a post-quantum key share that makes the hello longer than a segment."""
    data = recorded(["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
                     "--host-resolver-rules=MAP * 127.0.0.1", "https://host.example:{port}/"],
                    env={**os.environ, "HOME": str(tmp_path)})
    found = parse(data)
    assert len(data) > 1500
    assert (found.alpn, found.ech) == (("h2", "http/1.1"), True)
    assert not {0x0A0A + 0x1010 * n for n in range(16)} & {*found.ciphers, *found.extensions, *found.groups,
                                                           *found.versions}
    assert found.ja4.startswith("t13d15")
    for cut in range(len(data)):
        assert isinstance(parse(data[:cut]), Incomplete)


@pytest.mark.parametrize("size", [1, 7, 200, 2**14])
def test_every_cut(size):
    """However it is split into records and segments: more is asked for, never too much, until all is there."""
    data = records(python_hello()[5:], size)
    whole = parse(data)
    assert isinstance(whole, ClientHello)
    assert parse(data + b"\x17\x03\x03trailing") == whole
    for cut in range(len(data)):
        found = parse(data[:cut])
        assert isinstance(found, Incomplete)
        assert cut < found.need <= len(data)


def test_few_looks_at_tiny_records():
    """One byte a record must not make the caller look once a byte."""
    data = records(message(extension(21, bytes(8000))), 1)
    looks, have = 0, 0
    while isinstance(found := parse(data[:have]), Incomplete):
        looks, have = looks + 1, found.need
    assert isinstance(found, ClientHello)
    assert looks < 70


@pytest.mark.parametrize(("name", "sni"), [
    pytest.param(b"host.example", "host.example", id="plain"),
    pytest.param(b"HOST.Example.", "host.example", id="case and trailing dot"),
    pytest.param(b"xn--bcher-kva.example", "xn--bcher-kva.example", id="A-label"),
    pytest.param(b"_dmarc.host-1.example", "_dmarc.host-1.example", id="underscore"),
    pytest.param("bücher.example".encode(), None, id="U-label"),
    pytest.param(b"xn--a\xff.example", None, id="not ASCII"),
    pytest.param(b"xn--\x80.example", None, id="no IDNA"),
    pytest.param(b"host\0.example", None, id="NUL"),
    pytest.param(b"a..example", None, id="empty label"),
    pytest.param(b"", None, id="empty"),
    pytest.param(b".", None, id="root"),
    pytest.param(b"a" * 64 + b".example", None, id="label of 64"),
    pytest.param(b"a." * 127 + b"ab", None, id="longer than 253"),
    pytest.param(b"192.0.2.1", None, id="IPv4"),
    pytest.param(b"2001:db8::1", None, id="IPv6"),
    pytest.param(b"host.example:443", None, id="port"),
])
def test_server_name(name, sni):
    found = parse(records(message(server_name(name))))
    assert (found.sni, found.sni_invalid) == (sni, sni is None)


@pytest.mark.parametrize(("extensions", "shares", "resumes"), [
    pytest.param(b"", (), False, id="neither"),
    pytest.param(extension(51, vector(b"\x2a\x2a\0\1x" + b"\x11\xec\0\2yz" + b"\0\x1d\0\1z", 2)), (0x11EC, 29), False,
                 id="two shares and GREASE"),
    pytest.param(extension(51, b"\0\0"), (), False, id="no share: the origin shall name a group"),
    pytest.param(extension(35, b""), (), False, id="tickets wanted"),
    pytest.param(extension(35, b"ticket"), (), True, id="a ticket of TLS 1.2"),
    pytest.param(extension(41, b"identity"), (), True, id="a ticket of TLS 1.3"),
])
def test_shares_and_tickets(extensions, shares, resumes):
    found = parse(records(message(extensions)))
    assert (found.key_shares, found.resumes) == (shares, resumes)


@pytest.mark.parametrize("data", [
    pytest.param(b"\x16\x03\x01\0\0", id="empty record"),
    pytest.param(b"\x16\x03\x01\x40\x01", id="record longer than 2^14"),
    pytest.param(records(b"\x02\0\0\0"), id="a ServerHello"),
    pytest.param(records(b"\x01\xff\xff\xff"), id="message of 16 MiB"),
    pytest.param(records(message(extension(21, bytes(65_500))), 1000), id="longer than MAX_HELLO, all there"),
    pytest.param(records(message()[:20]) + b"\x17\x03\x03\0\1x", id="another record inside"),
    pytest.param(records(b"\x01\0\0\x01\x03"), id="nothing in it"),
    pytest.param(records(message(tail=b"x")), id="bytes after the extensions"),
    pytest.param(records(message(ciphers=b"\x13")), id="half a cipher"),
    pytest.param(records(message(server_name(b"a.example") * 2)), id="two server names"),
    pytest.param(records(message(extension(0, vector(b"\0\0\1a\0\0\1b", 2)))), id="two names in one list"),
    pytest.param(records(message(extension(0, vector(b"\1\0\1a", 2)))), id="name of another kind"),
    pytest.param(records(message(extension(0, b""))), id="server name without a list"),
    pytest.param(records(message(extension(16, b"\0\3\4h2"))), id="ALPN beyond its end"),
    pytest.param(records(message(extension(43, b"\2\3\4x"))), id="versions and a byte more"),
    pytest.param(records(message(b"\0\x10\0")), id="extension cut short"),
    pytest.param(records(message(extension(51, b"\0\4\0\x1d\0\1"))), id="key share cut short"),
    pytest.param(records(message(extension(51, b""))), id="key shares without a list"),
])
def test_malformed(data):
    with pytest.raises(BadHello):
        parse(data)


@pytest.mark.parametrize(("data", "looks_like"), [
    pytest.param(b"GET / HTTP/1.1\r\n", "http", id="GET"),
    pytest.param(b"P", "http", id="first byte of POST"),
    pytest.param(b"CONNECT a:443 HTTP/1.1\r\n", "http", id="CONNECT"),
    pytest.param(b"PRI * HTTP/2.0\r\n", "http", id="HTTP/2 with prior knowledge"),
    pytest.param(b"\x80\x2e\x01\x03\x01\x00\x15", "sslv2", id="hello in SSLv2 form"),
    pytest.param(b"SSH-2.0-OpenSSH_9\r\n", "unknown", id="SSH"),
    pytest.param(b"GETAWAY ", "unknown", id="no method"),
    pytest.param(b"\x16\x02", "unknown", id="record of SSL 2"),
    pytest.param(b"\x15\x03\x03\0\2\2\x28", "unknown", id="an alert"),
])
def test_not_tls(data, looks_like):
    assert parse(data) == NotTls(looks_like)


def test_nothing_yet():
    assert isinstance(parse(b""), Incomplete)


def test_garbage_raises_bad_hello_only():
    """Random bytes, and a real hello with random bytes in it."""
    rng, real = random.Random(2), python_hello()
    for _ in range(5000):
        data = bytearray(real)
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        for sample in (bytes(data), b"\x16\x03\x01" + rng.randbytes(rng.randrange(200)), rng.randbytes(50)):
            try:
                found = parse(sample)
                if isinstance(found, ClientHello):
                    assert found.ja3
                    assert found.ja4
                elif isinstance(found, Incomplete):
                    assert len(sample) < found.need <= MAX_HELLO
            except BadHello:
                pass


#: The example of FoxIO's specification, as a hello with GREASE strewn in.
SPEC_CIPHERS = "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035"
SPEC_EXTENSIONS = "001b 0033 4469 0017 002d 0005 0023 0012 ff01 000b 000a 0015"
SPEC_SIGNATURES = "0403 0804 0401 0503 0805 0501 0806 0601"


def spec_hello(signatures=SPEC_SIGNATURES):
    extensions = [extension(0x1A1A, b""), server_name(b"host.example"), extension(16, vector(b"\2h2\x08http/1.1", 2)),
                  extension(43, vector(b"\x2a\x2a\x03\x04\x03\x03", 1))]
    for code in SPEC_EXTENSIONS.split():
        data = {"000a": vector(b"\x3a\x3a\0\x1d\0\x17", 2), "000b": b"\1\0", "0033": b"\0\0"}.get(code, b"")
        extensions.append(extension(int(code, 16), data))
    extensions.append(extension(13, vector(bytes.fromhex(signatures), 2)))
    return records(message(b"".join(extensions), b"\x0a\x0a" + bytes.fromhex(SPEC_CIPHERS)))


def test_ja4_of_the_specification():
    assert parse(spec_hello()).ja4 == "t13d1516h2_8daaf6152771_e5627efa2ab1"


def test_ja4_without_signatures_has_no_underscore():
    names = sorted([*SPEC_EXTENSIONS.split(), "002b", "000d"])
    assert parse(spec_hello("")).ja4.endswith("_" + sha256(",".join(names).encode()).hexdigest()[:12])


def test_ja4_of_almost_nothing():
    assert parse(records(message(ciphers=b""))).ja4 == "t12i000000_000000000000_000000000000"


@pytest.mark.parametrize(("protocol", "ends"), [
    (b"h2", "h2"), (b"http/1.1", "h1"), (b"a", "aa"), (b"\xab", "ab"), (b"\x20", "20"), (b"\xab\xcd", "ad"),
    (b"\x20\x61", "21"), (b"\x30\xab", "3b"), (b"\x61\x20", "60"), (b"\x30\x31\xab\xcd", "3d"),
    (b"\x30\xab\xcd\x31", "01"), (b"", "00"),
])
def test_ja4_alpn(protocol, ends):
    """The cases that the specification lists."""
    assert parse(records(message(extension(16, vector(vector(protocol, 1), 2))))).ja4[8:10] == ends


def test_ja3():
    """MD5 of version, ciphers, extensions, groups and point formats in decimal, in the order sent, without GREASE."""
    ciphers = "-".join(str(int(code, 16)) for code in SPEC_CIPHERS.split())
    extensions = "0-16-43-27-51-17513-23-45-5-35-18-65281-11-10-21-13"
    text = f"771,{ciphers},{extensions},29-23,0"
    assert parse(spec_hello()).ja3 == md5(text.encode(), usedforsecurity=False).hexdigest()
