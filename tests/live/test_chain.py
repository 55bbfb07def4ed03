"""Other people's proxies as the upstream proxy, at another computer, and one lockgate behind another."""

import contextlib
import os
import subprocess
import time

import pytest

from tests.live.lab import CLIENT, ORIGIN, missing
from tests.waiting import wait_for

pytestmark = pytest.mark.live
PASSWORD = "correct-horse-7"
PORT = 3128
POLICY = """\
version: 1
capture:
  fail: closed
  upstream_proxy: {kind}://{host}:{port}
  upstream_proxy_username: me
  upstream_proxy_password_file: {folder}/password
tls: {{{{bypass: [bank.test], upstream: {{{{trusted_ca: {{roots}}}}}}}}}}
filters:
  - {{{{id: no-go, use: blocklist.Hosts, with: {{{{hosts: [blocked.test]}}}}}}}}
  - {{{{id: secrets, use: secrets.Secrets}}}}
"""
TINYPROXY = "Port {port}\nListen 198.51.100.2\nTimeout 20\nBasicAuth me {password}\nLogLevel Connect\nConnectPort 443\n"
#: Debian's own rules (squid.conf, "Recommended minimum"): CONNECT to port 443 alone.
SQUID = """\
http_port 198.51.100.2:{port}
pid_filename none
access_log stdio:{folder}/squid/proxy.log
cache_log {folder}/squid/cache.log
cache deny all
hosts_file {folder}/hosts
pinger_enable off
coredump_dir {folder}/squid
cache_effective_user nobody
auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/squid.users
acl known proxy_auth REQUIRED
acl CONNECT method CONNECT
acl SSL_ports port 443
http_access deny CONNECT !SSL_ports
http_access allow known
http_access deny all
shutdown_lifetime 0 seconds
"""
PROXIES = {"tinyproxy": "http", "squid": "http", "microsocks": "socks5"}


def at_the_origin(lab, *command):
    """The command on the other computer, with the names that it knows."""
    words = lab.inside(*command)
    words[1] = f"--net=/run/netns/{lab.origin}"
    return words


@pytest.fixture(params=PROXIES, scope="module")
def upstream(request, lab):
    """A proxy with a password; its kind, and what it says that it was asked for."""
    if absent := missing(request.param):
        pytest.skip(f"not installed: {absent}")
    log = lab.folder / ("squid/proxy.log" if request.param == "squid" else "proxy.log")
    log.parent.mkdir(exist_ok=True)
    if request.param == "squid":
        log.parent.chmod(0o777)
    (lab.folder / "tinyproxy.conf").write_text(TINYPROXY.format(port=PORT, password=PASSWORD))
    (lab.folder / "squid.conf").write_text(SQUID.format(port=PORT, folder=lab.folder))
    hashed = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], capture_output=True, text=True, check=True).stdout
    (lab.folder / "squid.users").write_text(f"me:{hashed}")
    command = {"tinyproxy": ["tinyproxy", "-d", "-c", lab.folder / "tinyproxy.conf"],
               "squid": ["squid", "-N", "-n", f"lockgate{os.getpid()}", "-f", lab.folder / "squid.conf"],
               "microsocks": ["microsocks", "-i", ORIGIN, "-p", PORT, "-u", "me", "-P", PASSWORD]}[request.param]
    with (lab.folder / "proxy.log").open("wb") as output, subprocess.Popen(at_the_origin(lab, *command), stdout=output, stderr=output) as process:
        try:
            assert wait_for(lambda: str(PORT) in listening(lab), 15), log.read_text()
            yield PROXIES[request.param], log.read_text
        finally:
            process.terminate()         # squid then takes what it has in shared memory with it
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def listening(lab):
    return subprocess.run(["nsenter", f"--net=/run/netns/{lab.origin}", "ss", "-Hltn"], capture_output=True, text=True,
                          check=True).stdout


def policy(lab, kind, host=ORIGIN, port=PORT, password=PASSWORD):
    (lab.folder / "password").touch()
    (lab.folder / "password").chmod(0o600)
    (lab.folder / "password").write_text(password)
    return lab.policy("chain.yaml", POLICY.format(kind=kind, host=host, port=port, folder=lab.folder))


@pytest.mark.parametrize("words", [("--capture", "nftables"), ("--capture", "explicit", "--listen", "127.0.0.1:8080")],
                         ids=["captured", "explicit"])
def test_all_leaves_by_the_upstream_proxy(lab, state, upstream, words):
    """HTTPS, plain HTTP and what is bypassed; the names are the proxy's to look up, and filters see what they always
    see.  The password file is root's: the proxy's user could not read it."""
    kind, said = upstream
    ask = () if "nftables" in words else ("-x", "http://127.0.0.1:8080")
    with lab.start(*words, state=state, policy=policy(lab, kind)):
        before = len(said())
        assert lab.status("https://origin.test/", *ask) == "200"
        assert lab.status("http://origin.test/", *ask) == "200"
        assert "lab root" in lab.curl("https://bank.test/", "-k", "-v", "-o", "/dev/null", *ask).stderr
        assert lab.status("https://blocked.test/", *ask) == "403"
        assert lab.status("http://origin.test/?k=AKIA4QXB7ZKLMRTW2NPD", *ask) == "403"
        assert wait_for(lambda: "bank.test" in said()[before:], 5), said()[before:]
        now = said()[before:]
        assert "origin.test" in now
        assert "blocked.test" not in now
        event = lab.events(state, "--host", "origin.test")[0]
        assert event["process"]["exe"].endswith("/curl")
    assert not [path for path in state.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]


def test_a_wrong_password_is_said(lab, state, upstream):
    with lab.start(state=state, policy=policy(lab, upstream[0], password="wrong")):
        for url in ("https://origin.test/", "http://origin.test/"):
            done = lab.curl(url, "-k", "-i", "-H", "accept: application/json")
            if " 401" in done.stdout.splitlines()[0] and url.startswith("http:"):
                continue        # tinyproxy says of a wrong password what an origin would
            assert " 502" in done.stdout.splitlines()[0]
            assert "upstream proxy" in done.stdout
            assert "proxy-authenticate" not in done.stdout.lower()


def test_a_password_that_others_may_read_is_refused(lab, state):
    path = policy(lab, "http")
    (lab.folder / "password").chmod(0o644)
    done = lab.call(*lab.lockgate("start", "--state", state, "--run-dir", lab.folder / "run", "--policy", path))
    assert (done.returncode, "chmod 600" in done.stderr, "Traceback" in done.stderr) == (2, True, False)


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_one_lockgate_behind_another(lab, state, kind):
    """App -> lockgate (captures) -> lockgate at the other computer (explicit, with users) -> origin.  The second one's
    certificates are verified by the first like any origin's."""
    users = lab.folder / "users"
    users.write_text(lab.call(*lab.lockgate("proxy-user", "me"), input=f"{PASSWORD}\n").stdout)
    second = lab.policy("second.yaml", "version: 1\ncapture: {{proxy_users: " + str(users) + "}}\n"
                        "tls: {{upstream: {{trusted_ca: {roots}}}}}\n"
                        "filters: [{{id: cards, use: cards.Cards}}]\n")
    words = ("start", "--json", "--capture", "explicit", "--listen", f"{ORIGIN}:{PORT + 1}", "--policy", second,
             "--state", lab.folder / f"second-{kind}", "--run-dir", lab.folder / "run2")
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(at_the_origin(lab, *lab.lockgate(*words)), stdout=subprocess.PIPE,
                                                       env=lab.environment, text=True))
        stack.callback(process.wait, 20)
        stack.callback(process.terminate)
        assert '"ready"' in process.stdout.readline()
        first = policy(lab, kind, port=PORT + 1)
        first.write_text(first.read_text().replace(str(lab.folder / "roots.pem"),
                                                   str(lab.folder / f"second-{kind}/ca/ca.pem")))
        (lab.folder / f"second-{kind}").chmod(0o755)
        (lab.folder / f"second-{kind}/ca").chmod(0o755)
        with lab.start(state=state, policy=first):
            assert lab.status("https://origin.test/") == "200"
            assert lab.status("http://origin.test/") == "200"
            assert lab.status("https://origin.test/post", "-d", "card=4111111111111111") == "403", "by the second"
        found = lab.events(lab.folder / f"second-{kind}")
        assert {event["src_ip"] for event in found if "src_ip" in event} == {CLIENT}


def test_users_from_elsewhere_give_a_password(lab, state):
    """Both protocols; no test of the door lets anybody in without it, or tells who exists."""
    users = lab.folder / "users"
    users.write_text(lab.call(*lab.lockgate("proxy-user", "me"), input=f"{PASSWORD}\n").stdout)
    path = lab.policy("users.yaml", "version: 1\ncapture: {{proxy_users: " + str(users) + "}}\n"
                      "tls: {{upstream: {{trusted_ca: {roots}}}}}\n")
    with lab.start("--capture", "explicit", "--listen", f"{CLIENT}:8080", state=state, policy=path):
        for scheme, refused in (("http", "407"), ("socks5h", "97"), ("socks4a", "97")):
            def ask(user, url="https://origin.test/", scheme=scheme):
                return lab.call("curl", "-sk", "-m", "10", "-o", "/dev/null", "-w", "%{http_code} %{http_connect}",
                                "-x", f"{scheme}://{user}{CLIENT}:8080", url)

            good, bad = ask(f"me:{PASSWORD}@"), [ask(""), ask("me:wrong@"), ask("nobody:x@")]
            assert (good.stdout.startswith("200"), scheme == "socks4a") in ((True, False), (False, True))
            for each in bad:
                assert each.returncode != 0
                assert refused in (str(each.returncode), *each.stdout.split())
        # a plain request's password is for us: the origin sees nothing of it
        done = lab.call("curl", "-s", "-m", "10", "-x", f"http://me:{PASSWORD}@{CLIENT}:8080", "http://origin.test/version")
        assert done.stdout == "HTTP/1.1"


def test_a_proxy_for_everybody_must_be_asked_for(lab, state):
    words = ("start", "--capture", "explicit", "--listen", f"{CLIENT}:8080", "--run-dir", lab.folder / "run",
             "--state", state, "--policy", lab.policy())
    done = lab.call(*lab.lockgate(*words))
    assert (done.returncode, "--allow-anyone" in done.stderr) == (2, True)
    with lab.start(*words[1:5], "--allow-anyone", state=state, policy=lab.policy()):
        assert lab.status("https://origin.test/", "-x", f"http://{CLIENT}:8080") == "200"
        def ask(where, url, *more):
            words = ("curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", "-x", f"http://{CLIENT}:8080", *more, url)
            return subprocess.run(where(*words), capture_output=True, text=True, check=False).stdout

        # from elsewhere nobody gets at what listens for this computer alone (here: nobody does)
        for host in ("127.0.0.1", "localhost", "[::1]"):
            assert ask(lab.inside, f"http://{host}:9/") == "502"
            assert ask(lambda *words: at_the_origin(lab, *words), f"http://{host}:9/") == "403"
        assert ask(lambda *words: at_the_origin(lab, *words), "http://origin.test/") == "200"
        time.sleep(0.2)
        assert "everybody who reaches" in (lab.folder / "stderr").read_text()
