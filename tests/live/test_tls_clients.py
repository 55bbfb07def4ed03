"""Real clients through us, captured by the kernel: what each gets of good origins and of bad ones, and what is recorded.

Each is given all the URLs, and prints a line `== URL` before what it got; those that are more than a line of shell are in
`clients/`.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.live.lab import ORIGIN as ADDRESS
from tests.live.lab import Lab, missing, running
from tests.proxy.handshake import authority, origin
from tests.waiting import wait_for

pytestmark = pytest.mark.live

SOURCES = Path(__file__).with_name("clients")
HELLO = "hello from the origin"
POST_QUANTUM = "X25519MLKEM768"


class Client(NamedTuple):
    """`script` is bash's, `needs` the programs that must be installed; `program` is how events name it."""

    script: str
    needs: tuple[str, ...]
    program: str
    http2: bool = False
    post_quantum: bool = False
    newest: str = "TLSv1.3"


EACH = 'for url; do echo "== $url"; at=${{url#https://}}; at=${{at%%/*}}; {}; done'
REQUEST = r"printf 'GET /%s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n' ${url##*/} $at"
CHROMIUM = ("chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --user-data-dir=$PWD/profile "
            "--dump-dom $url")
OPENSSL = f"{REQUEST} | openssl s_client -quiet -verify_return_error -connect $at -servername ${{at%:*}}"
#: It hangs up where its input ends, so that must not end before the answer is there.
GNUTLS = f"gnutls-cli -p ${{at#*:}} ${{at%:*}} < <({REQUEST}; exec sleep 10)"
JAVA = ("keytool -importcert -noprompt -alias lockgate -file $NODE_EXTRA_CA_CERTS -keystore roots -storepass secret && "
        f'java -Djavax.net.ssl.trustStore=roots -Djavax.net.ssl.trustStorePassword=secret {SOURCES}/Client.java "$@"')
GO = f'GO111MODULE=off CGO_ENABLED=0 GOCACHE=$PWD/cache go build -o gopher {SOURCES}/client.go && ./gopher "$@"'
FIREFOX = ("mkdir profile && certutil -N --empty-password -d sql:profile && certutil -A -d sql:profile -n lockgate -t C,, "
           f'-i $NODE_EXTRA_CA_CERTS && /usr/bin/python3 {SOURCES}/firefox.py profile "$@"')
CLIENTS = {
    "curl": Client(EACH.format("curl -sS $url"), ("curl",), "curl", http2=True),
    "curl-http1": Client(EACH.format("curl -sS --http1.1 $url"), ("curl",), "curl"),
    "curl-tls12": Client(EACH.format("curl -sS --tls-max 1.2 $url"), ("curl",), "curl", http2=True, newest="TLSv1.2"),
    "wget": Client(EACH.format("wget -q -O - --content-on-error $url"), ("wget",), "wget"),
    "openssl": Client(EACH.format(OPENSSL), ("openssl",), "openssl"),
    "gnutls": Client(EACH.format(GNUTLS), ("gnutls-cli",), "gnutls-cli"),
    "python": Client(f'/usr/bin/python3 {SOURCES}/client.py "$@"', ("/usr/bin/python3",), "python3"),
    "pyopenssl": Client(f'{sys.executable} {SOURCES}/quantum.py "$@"', (), "python3", post_quantum=True),
    "node": Client(f'node {SOURCES}/client.js "$@"', ("node",), "node"),
    "java": Client(JAVA, ("java", "keytool"), "java", http2=True),
    "go": Client(GO, ("go",), "gopher", http2=True),
    "chromium": Client(EACH.format(CHROMIUM), ("chromium", "certutil"), "chromium", http2=True, post_quantum=True),
    "firefox": Client(FIREFOX, ("firefox-esr", "certutil", "/usr/bin/python3"), "firefox", http2=True, post_quantum=True),
}


class Site(NamedTuple):
    """`breaks` is the rule that its certificate breaks.  Without `newest` it is our own server (`clients/origin.py`):
    Debian's nginx has no post-quantum groups."""

    port: int
    newest: str = "TLSv1.3"
    breaks: str = ""


SITES = {"modern.test": Site(8413), "old.test": Site(8412, "TLSv1.2"), "quantum.test": Site(8430, ""),
         "stranger.test": Site(8421, breaks="untrusted"), "expired.test": Site(8422, breaks="expired"),
         "wrong.test": Site(8423, breaks="name")}
NGINX = """\
worker_processes 1; pid {folder}/sites.pid; error_log {folder}/sites.err; user root;
events {{ }}
http {{ log_format seen '$host $uri'; access_log {folder}/sites.log seen; default_type text/plain; {servers} }}
"""
SERVER = """
server {{ listen {port} ssl http2; ssl_protocols {versions}; ssl_certificate {pem}; ssl_certificate_key {pem};
  location / {{ return 200 "{hello}"; }} }}
"""
POLICY = """\
version: 1
capture: {{ports: {ports}}}
tls: {{upstream: {{trusted_ca: {roots}}}}}
"""


@pytest.fixture(scope="module")
def sites(lab: Lab):
    """Origins on ports of their own; returns the roots that vouch for the good ones."""
    folder, root, servers = lab.folder, authority("sites' root"), ""
    for host, (port, newest, breaks) in SITES.items():
        leaf = origin(None if breaks == "untrusted" else root, ["other.test" if breaks == "name" else host],
                      valid=(-9, -1) if breaks == "expired" else (-1, 7))
        (pem := folder / f"{host}.pem").write_bytes(leaf.pem + leaf.key_pem)
        if newest:
            versions = "TLSv1.2" if newest == "TLSv1.2" else "TLSv1.2 TLSv1.3"
            servers += SERVER.format(port=port, versions=versions, pem=pem, hello=HELLO)
    (folder / "sites.pem").write_bytes(root.pem)
    (folder / "sites.conf").write_text(NGINX.format(folder=folder, servers=servers))
    with (folder / "hosts").open("a") as hosts:
        hosts.write(f"{ADDRESS} {' '.join(SITES)}\n")
    inside = ["nsenter", f"--net=/run/netns/{lab.origin}"]
    nginx = ["nginx", "-c", f"{folder}/sites.conf", "-p", str(folder), "-g", "daemon off;"]
    quantum = [sys.executable, f"{SOURCES}/origin.py", str(SITES["quantum.test"].port), f"{folder}/quantum.test.pem"]
    with running([*inside, *nginx]), running([*inside, *quantum]):
        assert wait_for(lambda: all(lab.status(f"https://{host}:{site.port}/") == "200" for host, site in SITES.items()), 10)
        (folder / "sites.log").write_text("")
        yield folder / "sites.pem"


@pytest.fixture(scope="module")
def ran(lab: Lab, sites: Path, tmp_path_factory):
    """One run of all that are here: what each printed for each host, and the events."""
    folder, state = tmp_path_factory.mktemp("clients"), tmp_path_factory.mktemp("state") / "state"
    urls = [f"https://{host}:{site.port}/" for host, site in SITES.items()]
    here = [name for name, client in CLIENTS.items() if not missing(*client.needs)]
    for name in here:
        (folder / name).mkdir()
        (folder / name / "script").write_text(CLIENTS[name].script)
    lines = [f"(cd {folder}/{name} && bash script {' '.join(url + name for url in urls)} > out 2> err)" for name in here]
    (folder / "all").write_text("\n".join(lines))
    (folder / "policy.yaml").write_text(POLICY.format(ports=[site.port for site in SITES.values()], roots=sites))
    done = lab.run("sh", folder / "all", state=state, policy=folder / "policy.yaml", limit=300)
    assert "Traceback" not in done.stderr
    return {name: Printed(folder / name) for name in here}, lab.events(state, "--limit", "5000")


class Printed:
    """What a client got, by host."""

    def __init__(self, folder: Path) -> None:
        self.complaints = (folder / "err").read_text(errors="replace")
        pages = (folder / "out").read_text(errors="replace").split("== https://")[1:]
        self.pages = {page.partition(":")[0]: page for page in pages}


@pytest.fixture(params=CLIENTS)
def name(request) -> str:
    if absent := missing(*CLIENTS[request.param].needs):
        pytest.skip(f"not installed: {absent}")
    return request.param


def met(ran, name: str, host: str):
    """The page that the client printed, and the event about it."""
    printed, events = ran[0][name], [event for event in ran[1] if event.get("http", {}).get("url") == f"/{name}"]
    found = [event for event in events if event["http"]["hostname"] == host]
    assert len(found) == 1, printed.complaints
    return printed.pages[host], found[0]


@pytest.mark.parametrize("host", ["modern.test", "old.test"])
def test_a_good_origin_opens(ran, name, host):
    """Over the newest version that client and origin share, on both sides; over HTTP/2 where both have it."""
    client = CLIENTS[name]
    page, event = met(ran, name, host)
    assert HELLO in page
    assert event["http"]["status"] == 200
    assert event["http"]["protocol"] == ("HTTP/2.0" if client.http2 else "HTTP/1.1")
    version = min(client.newest, SITES[host].newest)
    assert (event["tls"]["version"], event["tls"]["upstream"]["version"]) == (version, version)


@pytest.mark.parametrize("host", [host for host, site in SITES.items() if site.breaks])
def test_a_bad_origin_is_a_page_that_says_why(lab, ran, name, host):
    """And the origin has seen no request."""
    page, event = met(ran, name, host)
    assert f"(rule: {SITES[host].breaks})" in page
    assert HELLO not in page
    assert (event["http"]["status"], event["lockgate"]["verdict"]) == (502, "block")
    assert f"{host} " not in (lab.folder / "sites.log").read_text()


def test_post_quantum_is_kept_where_both_have_it(ran, name):
    page, event = met(ran, name, "quantum.test")
    assert HELLO in page
    assert (event["tls"]["upstream"]["group"] == POST_QUANTUM) == CLIENTS[name].post_quantum
    assert name != "pyopenssl" or f"group {POST_QUANTUM}\n" in page      # with us, too: it can tell


def test_both_sides_are_fingerprinted(ran, name):
    _, event = met(ran, name, "modern.test")
    tls, upstream = event["tls"], event["tls"]["upstream"]
    assert len({tls["ja3"]["hash"], upstream["ja3"], upstream["ja3s"]}) == 3
    assert tls["ja4"][:3] == upstream["ja4"][:3] == ("t13" if CLIENTS[name].newest == "TLSv1.3" else "t12")


def test_the_program_is_named(ran, name):
    """Whose socket it is, is looked up for a moment only: on a busy computer an event may lack it, never be wrong."""
    events = [met(ran, name, host)[1] for host in SITES]
    programs = {event["process"]["exe"].rpartition("/")[2] for event in events if "process" in event}
    assert [CLIENTS[name].program in program for program in programs] == [True]
