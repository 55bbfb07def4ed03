"""Bypasses that are earned and programs that pin, with a real worker, real programs and real origins."""

import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.pins import LOOK_INTERVAL
from proxy.pinstore import Store
from tests.proxy.conftest import read_answer, running
from tests.proxy.origin import Origin

GET = b"GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n"
POLICY = """\
version: 1
limits: {{answer: 3, hello: 3}}
tls:
  bypass: [other.test]
  pinned: {pinned}
  learn: [{{apps: ["{curl}", "{python}"], hosts: [origin.test, '*.wild.test']}}]
  upstream: {{trusted_ca: {roots}}}
connections:
  - {{id: must, verdict: inspect, hosts: [must.wild.test]}}
"""
CURL, OPENSSL = (shutil.which(name) or "" for name in ("curl", "openssl"))
pytestmark = pytest.mark.skipif(not (CURL and OPENSSL), reason="takes curl and openssl")


@pytest.fixture(scope="module")
def impostor(folder):
    """Has certificates for all the names, from an authority that nobody trusts."""
    with Origin(folder / "impostor").serve() as served:
        yield served


def started(folder, origin, pinned):
    paths = {"curl": Path(CURL).resolve(), "python": Path(sys.executable).resolve()}
    return running(folder / pinned, POLICY.format(roots=origin.roots, pinned=pinned, **paths))


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with started(folder, origin, "learn") as worker:
        yield worker


def seen(proxy, host):
    """Verdict and rule of each event about a host."""
    return [(event["lockgate"]["verdict"], event["lockgate"].get("filter")) for event in proxy.events()
            if event.get("tls", {}).get("sni") == host and event["event_type"] != "flow"]


def talk(proxy, origin, host, roots):
    """One request by a client that trusts these roots only; return who certified the other end, and the answer."""
    context = ssl.create_default_context(cafile=str(roots))
    with context.wrap_socket(proxy.tunnel(origin), server_hostname=host) as sock:
        sock.sendall(GET.replace(b"{}", host.encode()))
        return sock.getpeercert()["issuer"], read_answer(sock)


def test_a_name_that_is_proved_passes_unread(proxy, origin):
    _, answer = talk(proxy, origin, "other.test", origin.roots)
    assert answer.body == b"ok"
    assert seen(proxy, "other.test") == [("bypass", "tls.bypass")]


def test_what_passed_unread_is_counted(proxy, origin):
    """An event at the end says how much; of the same connection as the one that says why."""
    before = len(proxy.events())
    _, answer = talk(proxy, origin, "other.test", origin.roots)
    begun, ended = proxy.events()[before:]
    assert (begun["event_type"], ended["event_type"], begun["flow_id"]) == ("tls", "flow", ended["flow_id"])
    assert ended["flow"]["bytes_toserver"] > 200
    assert ended["flow"]["bytes_toclient"] > 500 + len(answer.body)


def test_a_banks_name_to_an_address_of_ones_own_is_inspected(proxy, impostor):
    """The program has its own server's certificate at hand; it gets ours, and a page that says why."""
    with pytest.raises(ssl.SSLCertVerificationError):
        talk(proxy, impostor, "other.test", impostor.roots)
    _, answer = talk(proxy, impostor, "other.test", proxy.ca)
    assert answer.status == 502
    assert b"authority" in answer.body
    assert not impostor.record
    assert ("alert", "tls.bypass") in seen(proxy, "other.test")


# -- programs that pin


def curl(proxy, origin, host, roots, *options):
    """curl's exit code: 0, or 60 for a certificate that it does not take."""
    return subprocess.run([CURL, "-sq", "-o", "/dev/null", "--noproxy", "", "-p", "-x", f"http://127.0.0.1:{proxy.port}",
                           "--cacert", roots, "--connect-to", f"{host}:443:127.0.0.1:{origin.port}", *options,
                           f"https://{host}/"], check=False, timeout=15).returncode


def s_client(proxy, origin, host, roots, *options):
    return subprocess.run([OPENSSL, "s_client", "-proxy", f"127.0.0.1:{proxy.port}", "-connect", f"127.0.0.1:{origin.port}",
                           "-servername", host, "-CAfile", roots, "-verify_return_error", *options],
                          stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=15).returncode


@pytest.mark.parametrize(("version", "host"), [("1.2", "origin.test"), ("1.3", "learned.wild.test")])
def test_what_pins_and_may_be_learned_is(proxy, origin, version, host):
    """The third try passes, unread, until it is revoked."""
    assert [curl(proxy, origin, host, origin.roots, "--tls-max", version) for _ in range(3)] == [60, 60, 0]
    assert seen(proxy, host)[-3:] == [("block", "tls.pinned"), ("alert", "tls.pinned"), ("bypass", "tls.pinned")]
    store = Store(proxy.folder / "state")
    ((pin,),) = [store.drop(lambda key: key[1] == host, limit=1)]
    assert (Path(pin.app).name, pin.learned, pin.cause[:10]) == ("curl", True, "unknown ca")
    time.sleep(LOOK_INTERVAL + 0.1)
    assert curl(proxy, origin, host, origin.roots) == 60
    assert curl(proxy, origin, host, proxy.ca) == 0


@pytest.mark.parametrize("options", [("-tls1_2",), ("-tls1_3",)])
def test_a_program_that_is_not_on_the_list_is_not(proxy, origin, options):
    assert 0 not in [s_client(proxy, origin, "a.wild.test", origin.roots, *options) for _ in range(4)]
    assert set(seen(proxy, "a.wild.test")) == {("block", "tls.pinned")}


def test_a_rule_that_says_inspect_wins(proxy, origin):
    assert [curl(proxy, origin, "must.wild.test", origin.roots) for _ in range(4)] == [60] * 4
    assert set(seen(proxy, "must.wild.test")) == {("block", "tls.pinned")}


def test_by_default_nothing_is_learned(folder, origin):
    with started(folder, origin, "block") as worker:
        assert [curl(worker, origin, "origin.test", origin.roots) for _ in range(4)] == [60] * 4
        events = [event["lockgate"] for event in worker.events() if event.get("tls", {}).get("sni") == "origin.test"]
        assert {event["verdict"] for event in events} == {"block"}
        assert "lockgate pins add" in events[0]["reason"]
        assert not (worker.folder / "state/pins").exists()


def test_a_client_that_compares_keys_after_the_handshake(proxy, origin):
    """As programs in Go do: it hangs up without a word."""
    context = ssl.create_default_context(cafile=str(proxy.ca))
    for _ in range(2):
        with context.wrap_socket(proxy.tunnel(origin), server_hostname="keys.wild.test"):
            pass
        time.sleep(0.2)
    assert [verdict for verdict, _ in seen(proxy, "keys.wild.test")] == ["alert"]
    _, answer = talk(proxy, origin, "keys.wild.test", origin.roots)
    assert answer.body == b"ok"


def test_a_pin_does_not_help_an_impostor(proxy, origin, impostor):
    assert [curl(proxy, origin, "a.wild.test", origin.roots) for _ in range(3)] == [60, 60, 0]
    assert curl(proxy, impostor, "a.wild.test", impostor.roots) == 60
    assert not impostor.record
