"""Clients that do not take our certificate: how they say so, what is learned from it, for how long, and from whom not."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
import yaml
from OpenSSL import SSL

from addons.connection import Connection, Process
from certs.authority import Authority
from proxy import pins, pinstore
from proxy.pins import CLOSED, FAILURES, LIFE, WITHIN, Pins, cause, learnable
from proxy.pinstore import Store
from proxy.tlspolicy import Learn, Tls

APP, HOST = "/opt/bank/app", "api.bank.test"
LEARN = [Learn(("/opt/bank/*",), ("*.bank.test",))]
OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def connection(app=APP, host=HOST):
    return Connection(host, ("192.0.2.1", 443), ("127.0.0.1", 1), Process(1, app) if app is not None else None)


class Clock:
    """Seconds of the epoch that a test sets."""

    def __init__(self):
        self.now = time.time()

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


# -- what clients say


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pins")
    return Authority.create(folder / "ours"), Authority.create(folder / "theirs")


def python(address, root, newest):
    context = ssl.create_default_context(cafile=str(root))
    context.maximum_version = newest
    with (contextlib.suppress(OSError), socket.create_connection(address, timeout=5) as sock,
          context.wrap_socket(sock, server_hostname=HOST)):
        pass


def curl(address, root, newest):
    newest = {OLD: "1.2", NEW: "1.3"}[newest]
    subprocess.run(["curl", "-sq", "--noproxy", "*", "--cacert", root, "--tls-max", newest, "--resolve",
                    f"{HOST}:{address[1]}:127.0.0.1", f"https://{HOST}:{address[1]}/"], check=False, timeout=10)


def s_client(address, root, newest):
    newest = {OLD: "-tls1_2", NEW: "-tls1_3"}[newest]
    subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{address[1]}", "-servername", HOST, "-CAfile", root,
                    "-verify_return_error", newest], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=10)


def key_pinner(address, root, newest):
    """Compares keys when the handshake is done, and hangs up."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, newest
    with socket.create_connection(address, timeout=5) as sock, context.wrap_socket(sock, server_hostname=HOST):
        pass


def our_side(authority, client, root, newest):
    """A handshake of ours with a client; return how it ended: OpenSSL's words, or empty if it went well."""
    leaf = authority.issue([HOST])
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate(leaf.certificate)
    context.use_privatekey(leaf.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = threading.Thread(target=client, args=(listener.getsockname(), root, newest))
        running.start()
        sock, _ = listener.accept()
        with sock:
            tls = SSL.Connection(context, sock)
            tls.set_accept_state()
            try:
                tls.do_handshake()
                tls.recv(1)
                said = ""
            except SSL.Error as error:
                said = str(error)
        running.join()
    return said


@pytest.mark.parametrize("newest", [OLD, NEW])
@pytest.mark.parametrize("client", [
    python,
    pytest.param(curl, marks=pytest.mark.skipif(not shutil.which("curl"), reason="takes curl")),
    pytest.param(s_client, marks=pytest.mark.skipif(not shutil.which("openssl"), reason="takes openssl")),
])
def test_a_client_with_another_root_says_so(authorities, client, newest):
    ours, theirs = authorities
    assert cause(our_side(ours, client, theirs.pem_path, newest)) == "unknown ca"
    if client is python:
        assert cause(our_side(ours, client, ours.pem_path, newest)) is None     # it goes without a word


@pytest.mark.parametrize("newest", [OLD, NEW])
def test_a_client_that_compares_keys_says_nothing(authorities, newest):
    assert cause(our_side(authorities[0], key_pinner, None, newest)) is None


@pytest.mark.parametrize(("error", "expected"), [
    pytest.param("The client does not trust the proxy's certificate for a.example (tlsv1 alert unknown ca)", "unknown ca", id="mitmproxy's words"),
    pytest.param("OpenSSL Error([('SSL routines', '', 'ssl/tls alert bad certificate')])", "bad certificate", id="OpenSSL's"),
    pytest.param("sslv3 alert certificate expired", "certificate expired", id="old OpenSSL's"),
    pytest.param(CLOSED, CLOSED, id="closed after the handshake"),
    pytest.param("The client disconnected during the handshake. If this happens ...", None, id="closed within it"),
    pytest.param("OpenSSL Error([('SSL routines', '', 'no shared cipher')])", None, id="no common suite"),
    pytest.param("tlsv1 alert protocol version", None, id="no common version"),
    pytest.param("", None, id="nothing known"),
])
def test_cause(error, expected):
    assert cause(error) == expected


# -- what is learned


def failures(times, **of):
    return [("fail", of)] * times


@pytest.mark.parametrize(("steps", "learned"), [
    pytest.param(failures(FAILURES), True, id="enough of them"),
    pytest.param(failures(1), False, id="one only"),
    pytest.param([("fail", {}), ("wait", WITHIN + 1), ("fail", {})], False, id="too far apart"),
    pytest.param([("fail", {}), ("wait", -WITHIN), ("fail", {})], False, id="the clock was set back"),
    pytest.param(failures(9, app="/opt/other/app"), False, id="a program that is not on the list"),
    pytest.param(failures(9, host="api.other.test"), False, id="a host that is not"),
    pytest.param(failures(9, host="bank.test"), False, id="nor the name above"),
    pytest.param(failures(9, app=""), False, id="a program that has ended"),
    pytest.param(failures(9, app=None), False, id="a program that nobody knows"),
    pytest.param(failures(9, host=None), False, id="no server name"),
    pytest.param(failures(9, host="no name.bank.test"), False, id="a name that is none"),
    pytest.param([*failures(1), *failures(1, host="www.bank.test"), *failures(1, app="/opt/bank/2")], False,
                 id="once each"),
    pytest.param([*failures(FAILURES), ("wait", LIFE - 1)], True, id="it lasts"),
    pytest.param([*failures(FAILURES), ("wait", LIFE + 1)], False, id="it expires"),
    pytest.param([*failures(FAILURES), ("restart", {})], True, id="it survives a restart"),
    pytest.param([*failures(FAILURES), ("restart", {}), ("wait", LIFE + 1)], False, id="and expires after it"),
    pytest.param([*failures(FAILURES), ("revoke", {}), ("wait", 1)], False, id="revoked"),
    pytest.param([*failures(FAILURES), ("revoke", {}), ("wait", 1), *failures(1)], False, id="failures are counted anew"),
    pytest.param([*failures(FAILURES), ("damage", {}), ("wait", 1)], False, id="the file is damaged"),
    pytest.param([*failures(FAILURES), ("damage", {}), ("restart", {})], False, id="and the worker is new"),
    pytest.param([*failures(FAILURES), ("damage", {}), ("wait", 1), *failures(FAILURES)], True, id="it goes on after that"),
    pytest.param([("lock", {}), *failures(9)], False, id="the file is being changed: nobody waits"),
])
def test_learning(tmp_path, clock, steps, learned):
    with contextlib.ExitStack() as held:
        known = Pins(tmp_path, clock)
        for step, of in steps:
            match step:
                case "fail":
                    known.client_failed(connection(**of), "unknown ca", LEARN)
                case "wait":
                    clock.now += of
                case "restart":
                    known = Pins(tmp_path, clock)
                case "revoke":
                    assert len(Store(tmp_path, clock).drop(lambda key: True, limit=0)) == 1
                case "damage":
                    (tmp_path / "pins/pins.json").write_text("[{")
                case "lock":
                    held.enter_context(Store(tmp_path)._locked(0))
        seen = [known.find(connection()), known.find(connection(host="www.bank.test")), known.find(connection("/opt/bank/2"))]
    assert [pin is not None for pin in seen] == [learned, False, False]


def test_what_was_learned_is_told_once(tmp_path, clock):
    known = Pins(tmp_path, clock)
    told = [known.client_failed(connection(), "unknown ca", LEARN) for _ in range(5)]
    assert [pin is not None for pin in told] == [False, True, False, False, False]
    pin = told[1]
    assert (pin.app, pin.host, pin.learned, pin.until - pin.since) == (APP, HOST, True, LIFE)
    assert pin.cause.startswith("unknown ca, 2 times")


def test_counted_failures_are_bounded(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(pins, "MAX_COUNTED", 10)
    known = Pins(tmp_path, clock)
    for number in range(100):
        known.client_failed(connection(host=f"{number}.bank.test"), "unknown ca", LEARN)
    assert len(known._failures) == 10


def test_pins_are_bounded(tmp_path, clock, monkeypatch, caplog):
    monkeypatch.setattr(pinstore, "MAX_PINS", 3)
    known = Pins(tmp_path, clock)
    for number in [0, 0, 1, 1, 2, 2, 3, 3]:
        known.client_failed(connection(host=f"{number}.bank.test"), "unknown ca", LEARN)
    assert [known.find(connection(host=f"{n}.bank.test")) is not None for n in range(4)] == [True, True, True, False]
    assert "could not be noted" in caplog.text


@pytest.mark.parametrize(("tls", "app", "host", "expected"), [
    pytest.param(Tls(), "/usr/bin/mullvad-daemon", "api.mullvad.net", False, id="nothing by default"),
    pytest.param(Tls(pinned="learn"), "/usr/bin/mullvad-daemon", "api.mullvad.net", True, id="shipped"),
    pytest.param(Tls(pinned="learn"), "/home/me/mullvad-daemon", "api.mullvad.net", False, id="that name elsewhere"),
    pytest.param(Tls(pinned="learn"), "/usr/bin/mullvad-daemon", "example.org", False, id="with any other host"),
    pytest.param(Tls(pinned="learn"), APP, HOST, False, id="neither"),
    pytest.param(Tls(pinned="learn", learn=tuple(LEARN)), APP, HOST, True, id="by the policy"),
    pytest.param(Tls(pinned="block", learn=tuple(LEARN)), APP, HOST, False, id="which has to say `learn`, too"),
])
def test_who_may_be_learned(tls, app, host, expected):
    assert any(rule.covers(app, host) for rule in learnable(tls)) == expected


def test_the_shipped_list_is_small_and_has_its_sources():
    entries = yaml.safe_load((pins.Path(pins.__file__).parent / "pinned.yaml").read_text())
    assert 0 < len(entries) < 20
    for entry in entries:
        assert set(entry) == {"apps", "hosts", "source"}
        assert all(app.startswith(("/usr/", "/opt/")) and "*" not in app for app in entry["apps"])      # root's
        assert all("*" not in host for host in entry["hosts"])
