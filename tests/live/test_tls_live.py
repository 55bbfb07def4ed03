"""Origins that want a certificate of us, before a real worker; programs that pin, captured by the kernel."""

import json
import os
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.lab import BLOCKED, Lab, running
from tests.proxy.conftest import folder as folder
from tests.proxy.conftest import running as worker
from tests.proxy.handshake import SPEAKS, authority, certify, origin
from tests.proxy.origin import Origin
from tests.waiting import wait_for

pytestmark = pytest.mark.live

# -- origins that want a certificate of us

#: Tries of each kind: enough to see a hang of one in a hundred; `ROUNDS=1000` for more.
ROUNDS = int(os.environ.get("ROUNDS", "200"))
#: Tries at a time, so that no two go alike.
AT_ONCE = 8
#: Seconds in which every failure of an origin is answered.
SOON = 10.0
GET = b"GET / HTTP/1.1\r\nhost: origin.test\r\nconnection: close\r\n\r\n"
POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}, identities: [{identities}]}}}}
"""


@dataclass
class Reserved(Origin):
    """Serves those alone who have a certificate of its friends."""

    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3

    def _context(self) -> ssl.SSLContext:
        context = super()._context()
        context.minimum_version = context.maximum_version = self.version
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(self.folder / "friends.pem")
        return context


@pytest.fixture(scope="module")
def identity(folder) -> Path:
    """Our certificate, and beside it the authority that the origins believe."""
    friends = authority("friends")
    (folder / "origin").mkdir()
    (folder / "origin" / "friends.pem").write_bytes(friends.pem)
    ours = certify("us", friends, [SPEAKS])
    (file := folder / "identity.pem").write_bytes(ours.pem + ours.key_pem)
    return file


@pytest.fixture(scope="module", params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def reserved(request, folder, identity):
    with Reserved(folder / "origin", version=request.param).serve() as served:
        yield served


def test_without_a_certificate_every_try_is_answered(folder, reserved):
    """With TLS 1.3 the origin's refusal comes when our handshake is over, and its reset may overtake its alert: none of
    these moments leaves a client waiting."""
    def attempt(_: int) -> tuple[int, bool, float]:
        began = time.monotonic()
        answer = proxy.ask(reserved, GET)
        return answer.status, answer.ended, time.monotonic() - began

    policy = POLICY.format(roots=reserved.roots, identities="")
    with worker(folder / reserved.version.name, policy) as proxy, ThreadPoolExecutor(AT_ONCE) as pool:
        tries = list(pool.map(attempt, range(ROUNDS)))
    assert {each[:2] for each in tries} == {(502, True)}
    assert max(each[2] for each in tries) < SOON
    assert reserved.record == b""


def test_with_the_policy_s_certificate_it_opens_to_that_host_alone(folder, reserved, identity):
    policy = POLICY.format(roots=reserved.roots, identities=f"{{hosts: [origin.test], file: {identity}}}")
    with worker(folder / f"{reserved.version.name} known", policy) as proxy:
        assert [proxy.ask(reserved, GET).body for _ in range(5)] == [b"ok"] * 5
        assert proxy.ask(reserved, GET.replace(b"origin", b"other"), host="other.test").status == 502


# -- programs that pin

CURL = Path("/usr/bin/curl").resolve()
#: Seconds in which `lockgate pins` has its effect, and a moment for the command itself.
REVOKED = 1.0
PINNING = """\
version: 1
capture: {{ports: [80, 443, 8443]}}
tls:
  bypass: [bank.test]
  pinned: {pinned}
  learn: [{{apps: [{curl}], hosts: [origin.test]}}]
  upstream: {{trusted_ca: {roots}}}
"""


@pytest.fixture
def started(request, lab, state):
    (policy := lab.folder / "pinning.yaml").write_text(PINNING.format(pinned=request.param, curl=CURL, roots=lab.folder / "roots.pem"))
    with lab.start(state=state, policy=policy) as started:
        yield started


def pinned(lab: Lab, url: str = "https://origin.test/") -> int:
    """The exit code of a curl that accepts the origin's own certificate and no other: 0, or 60."""
    return lab.call("curl", "-sS", "-m", "5", "-o", "/dev/null", "--cacert", lab.folder / "roots.pem", url).returncode


def seen(lab: Lab, state: Path, host: str) -> list[tuple[str, str]]:
    return [(event["lockgate"]["verdict"], event["lockgate"].get("filter", "")) for event in lab.events(state, "--host", host)]


@pytest.mark.parametrize("started", ["block"], indirect=True)
def test_by_default_a_program_that_pins_stays_blocked_and_is_named(lab, state, started):
    assert [pinned(lab) for _ in range(4)] == [60] * 4
    events = [event for event in lab.events(state, "--host", "origin.test") if event["lockgate"]["filter"] == "tls.pinned"]
    assert [(event["lockgate"]["verdict"], event["process"]["exe"]) for event in events] == [("block", str(CURL))] * 4
    assert "lockgate pins add" in events[0]["lockgate"]["reason"]


@pytest.mark.parametrize("started", ["learn"], indirect=True)
def test_what_may_be_learned_is_after_two_failures_until_it_is_revoked(lab, state, started):
    """For that program only: it then meets the origin itself."""
    assert [pinned(lab) for _ in range(3)] == [60, 60, 0]
    assert lab.issuer("https://origin.test/") == "lab root"
    python = "import ssl, urllib.request as r; r.urlopen('https://origin.test/', context=ssl.create_default_context(cafile='{}'))"
    assert "CERTIFICATE_VERIFY_FAILED" in lab.call("/usr/bin/python3", "-c", python.format(lab.folder / "roots.pem")).stderr
    listed = json.loads(lab.call(*lab.lockgate("pins", "--state", state, "--json")).stdout)
    assert (listed["app"], listed["host"], listed["learned"]) == (str(CURL), "origin.test", True)
    done = lab.call(*lab.lockgate("pins", "revoke", CURL, "origin.test", "--state", state))
    assert done.returncode == 0, done.stderr
    time.sleep(REVOKED)
    assert pinned(lab) == 60
    assert {("alert", "tls.pinned"), ("bypass", "tls.pinned"), ("block", "tls.pinned")} <= set(seen(lab, state, "origin.test"))


@pytest.mark.parametrize("started", ["learn"], indirect=True)
def test_a_bank_s_name_does_not_open_an_address_of_one_s_own(lab, state, started):
    """The bank itself passes unread; whoever says its name gets our certificate, and a page."""
    assert lab.issuer("https://bank.test/") == "lab root"
    mine = origin(None, ["bank.test"])
    (pem := lab.folder / "impostor.pem").write_bytes(mine.pem + mine.key_pem)
    server = ["nsenter", f"--net=/run/netns/{lab.origin}", sys.executable,
              str(Path(__file__).with_name("clients") / "origin.py"), "8443", str(pem)]
    ask = ("curl", "-sS", "-m", "5", "--resolve", f"bank.test:8443:{BLOCKED}", "https://bank.test:8443/", "--cacert")
    with running(server):
        assert wait_for(lambda: "(rule: untrusted)" in lab.curl("https://origin.test:8443/", "-k").stdout, 10)
        assert lab.call(*ask, pem).returncode == 60
        page = lab.call(*ask, started.ready["ca"]).stdout
    assert "(rule: untrusted)" in page
    assert ("alert", "tls.bypass") in seen(lab, state, "bank.test")
