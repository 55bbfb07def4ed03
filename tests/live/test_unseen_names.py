"""What would hide a name from us: QUIC, ECH, encrypted DNS, a ClientHello without a name. With real clients."""

import contextlib
import json
import shutil
import socket
from pathlib import Path

import pytest

from tests.live.lab import ORIGIN, POLICY, missing, sh
from tests.live.names import Names, ech_config, https_record
from tests.redirector.namespaces import within
from tests.waiting import wait_for

pytestmark = pytest.mark.live

#: An application's uid, and one whose QUIC is let go.
#: Not of those from which a transient user gets one.
APP, FREE = 51185, 51186
PAGE = "hello from the origin"
CHROMIUM = ("chromium --headless --no-sandbox --disable-gpu --no-first-run --user-data-dir={folder} "
            "--log-net-log={folder}/netlog.json --dump-dom https://origin.test/")
FIREFOX = (f"mkdir {{folder}}/profile; cp {Path(__file__).parent}/clients/resolver.js {{folder}}/profile/user.js; "
           "certutil -N --empty-password -d sql:{folder}/profile; "
           "certutil -A -d sql:{folder}/profile -n lockgate -t C,, -i $NODE_EXTRA_CA_CERTS; "
           f"/usr/bin/python3 {Path(__file__).parent}/clients/firefox.py {{folder}}/profile https://origin.test/")
TRY = """
import socket, sys, time
kind, port = sys.argv[1], int(sys.argv[2])
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
sock.settimeout(2)
began = time.monotonic()
try:
    sock.connect((sys.argv[3], port))
    if kind == "udp":
        sock.send(sys.argv[4].encode())
        sock.recv(1)
    answer = "open"
except TimeoutError:
    answer = "silence"
except OSError:
    answer = "refused"
print(answer, time.monotonic() - began < 0.5)
"""


@pytest.fixture(scope="module")
def browse(lab, tmp_path_factory):
    """Runs a browser's command under `lockgate run`, in a world whose names come from a server."""
    conf = (lab.folder / "nginx.conf").read_text().replace("ssl_certificate ", "ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate ", 1)
    (lab.folder / "nginx.conf").write_text(conf)
    sh(f"nginx -c {lab.folder}/nginx.conf -p {lab.folder} -s reload")
    assert wait_for(lambda: lab.curl("https://origin.test/", "--tlsv1.3").returncode == 0, 5)
    (lab.folder / "resolv").write_text("nameserver 127.0.0.1\n")
    (lab.folder / "empty").write_text("127.0.0.1 localhost\n")

    def browse(command, record, rules=""):
        """The host has that HTTPS record. Returns what was printed, the events, and the folder, `{folder}` in the command."""
        folder = tmp_path_factory.mktemp("browser")
        policy = lab.policy("unseen.yaml", POLICY.replace("capture: {{fail: {fail}}}", f"capture: {{{{fail: {{fail}}{rules}}}}}"))
        script = (f"mount --bind {lab.folder}/resolv /etc/resolv.conf; mount --bind {lab.folder}/empty /etc/hosts; "
                  + command.format(folder=folder))
        zone = {"origin.test": (ORIGIN, record), "git.test": (ORIGIN, b"")}
        with Names(zone).serve(lab.client):
            done = lab.run("unshare", "--mount", "--propagation", "private", "sh", "-c", script,
                           state=folder / "state", policy=policy, limit=90)
        return done.stdout, lab.events(folder / "state"), folder
    return browse


@pytest.fixture(scope="module")
def chromium(browse):
    if absent := missing("chromium"):
        pytest.skip(f"not installed: {absent}")

    def load(record):
        """The page, the events and the browser's log of its network."""
        page, events, folder = browse(CHROMIUM, record)
        return page, events, netlog(folder / "netlog.json")
    return load


def netlog(path):
    """(milliseconds, event, phase, parameters) in order."""
    log = json.loads(path.read_text())
    names = {number: name for name, number in log["constants"]["logEventTypes"].items()}
    return [(int(event["time"]), names[event["type"]], event["phase"], event.get("params", {})) for event in log["events"]]


def moments(log, name, **params):
    return [at for at, event, _, given in log if event == name and params.items() <= given.items()]


def test_quic_falls_back_within_a_tenth_of_a_second(lab, chromium):
    """A name whose record says `h3`, so that Chromium tries QUIC at once: from its first try to the first to connect by
    TCP. 10 to 30 ms, but on a busy machine a browser waits for its turn: once in three loads is enough."""
    before, took, page = lab.packets("quic"), [], ""
    for _ in range(3):
        page, events, log = chromium(https_record("h2", "h3"))
        tried = moments(log, "UDP_CONNECT", address=f"{ORIGIN}:443")[0]
        took.append(next(at for at in moments(log, "TCP_CONNECT_ATTEMPT", address=f"{ORIGIN}:443") if at >= tried) - tried)
        if PAGE in page and took[-1] < 100:
            break
    assert PAGE in page
    assert min(took) < 100
    assert lab.packets("quic") == before
    assert any(event.get("http", {}).get("hostname") == "origin.test" for event in events)


def test_real_ech_falls_back_to_a_name_that_can_be_read(chromium):
    page, events, log = chromium(https_record("h2", ech=ech_config("git.test")))
    assert PAGE in page
    assert moments(log, "SSL_CONNECT_JOB_RESTART_WITH_ECH_CONFIG_LIST")
    outer = next(event for event in events if event["lockgate"].get("filter") == "tls.ech")
    assert (outer["event_type"], outer["tls"]["sni"], outer["tls"]["ech"]) == ("alert", "git.test", True)
    inner = next(event for event in events if event.get("http", {}).get("url") == "/")
    assert inner["tls"]["sni"] == "origin.test"
    assert inner["timestamp"] > outer["timestamp"]
    assert not [event for event in events if event["lockgate"].get("filter") == "tls.pinned"]


def test_a_hello_with_grease_is_not_taken_for_a_hidden_name(chromium):
    page, events, _ = chromium(https_record("h2"))
    assert PAGE in page
    assert [event["tls"]["ech"] for event in events if event.get("http", {}).get("url") == "/"] == [True]
    assert not [event for event in events if event["lockgate"].get("filter") == "tls.ech"]


@pytest.mark.skipif(bool(missing("firefox-esr", "certutil")), reason="needs firefox-esr and certutil")
def test_refused_dns_over_https_falls_back_to_the_systems_resolver(browse):
    """Firefox asks its resolver first, and the system's where that one fails (`network.trr.mode` 2)."""
    page, events, _ = browse(FIREFOX, https_record("h2"), rules=", encrypted_dns: refuse")
    refused = [event for event in events if event["lockgate"].get("filter") == "capture.encrypted_dns"]
    assert PAGE in page
    assert (refused[0]["http"]["hostname"], refused[0]["http"]["status"]) == ("git.test", 403)
    assert refused[0]["process"]["exe"].endswith("firefox-esr")


@pytest.fixture(scope="module")
def started(lab, tmp_path_factory):
    rules = f"capture: {{{{fail: {{fail}}, encrypted_dns: refuse, quic_users: ['{FREE}']}}}}"
    text = POLICY.replace("capture: {{fail: {fail}}}", rules) + "connections: [{{id: nameless, verdict: block, sni: absent}}]\n"
    with lab.start(state=tmp_path_factory.mktemp("unseen") / "state", policy=lab.policy("refuse.yaml", text)) as started:
        yield started


@pytest.mark.parametrize(("kind", "port", "user", "answer"), [
    pytest.param("tcp", 853, APP, "refused True", id="DNS over TLS"),
    pytest.param("udp", 853, APP, "refused True", id="DNS over QUIC"),
    pytest.param("udp", 443, APP, "refused True", id="QUIC"),
    pytest.param("udp", 53, APP, "refused True", id="plain DNS: the origin's own answer, it has none"),
])
def test_what_is_refused_is_refused_at_once(lab, started, kind, port, user, answer):
    done = lab.call(shutil.which("python3", path="/usr/bin"), "-c", TRY, kind, str(port), ORIGIN, "initial", user=user)
    assert done.stdout.strip() == answer, done.stderr


def test_quic_of_a_user_that_may_is_let_go_and_of_no_other(lab, started):
    """By what the origin hears; a browser of an earlier test may still be trying."""
    with within(Path("/run/netns", lab.origin), socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as origin:
        origin.bind((ORIGIN, 443))
        for user in (APP, FREE):
            lab.call("/usr/bin/python3", "-c", TRY, "udp", "443", ORIGIN, f"from {user}", user=user)
        origin.settimeout(0.5)
        heard = set()
        with contextlib.suppress(TimeoutError):
            while True:
                heard.add(origin.recv(2000))
    assert f"from {FREE}".encode() in heard
    assert f"from {APP}".encode() not in heard


def test_the_guard_refuses_encrypted_dns_too(lab, started):
    """Whatever ends the redirector: DNS over TLS would else be open until the next pair is there."""
    listing = sh(f"nsenter --net=/run/netns/{lab.client} nft list ruleset")
    guard = listing.partition("table inet lockgate_guard")[2].partition("\ntable ")[0]
    assert "tcp dport 853 reject with tcp reset" in guard
    assert "udp dport 853 reject" in guard


def test_a_rule_for_hellos_without_a_name(lab, started):
    assert lab.status(f"https://{ORIGIN}/") == "403"
    assert lab.status("https://origin.test/") == "200"
    event = lab.events(started.state, "--filter", "nameless", "--limit", "1")[0]
    assert (event["lockgate"]["verdict"], event["tls"]["sni_absent"]) == ("block", True)


def test_a_resolver_by_its_name_is_refused_and_not_dialled(lab, started):
    before = len(lab.requests())
    asked = lab.status("https://dns.google/dns-query", "--connect-to", f"dns.google:443:{ORIGIN}:443")
    assert (asked, len(lab.requests())) == ("403", before)


def test_curl_says_that_its_resolver_refused(lab, started):
    done = lab.curl("https://origin.test/", "--doh-url", "https://git.test/dns-query", "--doh-insecure", "-k")
    assert done.returncode != 0
    event = lab.events(started.state, "--filter", "capture.encrypted_dns", "--limit", "1")[0]
    assert event["process"]["exe"].endswith("/curl")
