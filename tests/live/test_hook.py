"""`lockgate run` without root: connect() is redirected, whatever the program knows of proxies.

As in test_run.py, but nothing here has rights: the namespaces are only there to have an origin.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.live.lab import Lab, missing
from tests.live.test_explicit import USER, user
from tests.live.test_run import NODE, URLLIB, make_repository

pytestmark = pytest.mark.live
__all__ = ["user"]  # a fixture

GO = r"""package main
import ("crypto/tls"; "fmt"; "net/http"; "crypto/x509"; "os"; "io")
func main() {
  pem, _ := os.ReadFile(os.Getenv("SSL_CERT_FILE"))
  pool := x509.NewCertPool(); pool.AppendCertsFromPEM(pem)
  client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
  answer, err := client.Get("https://origin.test/go/")
  if err != nil { fmt.Println(err); os.Exit(1) }
  body, _ := io.ReadAll(answer.Body); fmt.Print(string(body))
}
"""
JAVA = r"""
public class Plain { public static void main(String[] words) throws Exception {
  var url = new java.net.URL("http://origin.test/java/");
  System.out.print(new String(url.openStream().readAllBytes())); } }
"""
HELLO = "hello from the origin"
#: program -> command and what it prints; each asks for a path of its own.
PROGRAMS = {
    "curl": ("curl -sS --noproxy '*' --http2 https://origin.test/version", "HTTP/2.0"),
    "curl over IPv6": ("curl -sS https://six.test/version", "HTTP/2.0"),
    "curl without TLS": ("curl -sS http://origin.test/version", "HTTP/1.1"),
    "wget": ("wget --no-proxy -qO- http://origin.test/version", "HTTP/1.1"),
    "python": (f'/usr/bin/python3 -c "{URLLIB}"', HELLO),
    "git": ("git clone -q https://git.test/repo.git cloned && git -C cloned log --format=%s", "first"),
    "node": (f'node -e "{NODE}"', HELLO),
    "go": ("./program", HELLO),
    "java": ("java Plain.java", HELLO),
    "a chain": ("sh -c 'sh -c \"setsid sh -c \\\"exec curl -sS https://origin.test/version\\\"\"'", "HTTP/2.0"),
}


@pytest.fixture(scope="module")
def ran(lab: Lab, user):
    """One run that starts them all; the output of each, and the events."""
    home = user[2]
    for name in ("python", "node", "go", "java"):
        (lab.folder / "www" / name).mkdir()
        (lab.folder / "www" / name / "index.html").write_text(HELLO)
    make_repository(lab)
    build(home)
    lines = [f"cd {home}"]
    for number, (command, _) in enumerate(PROGRAMS.values()):
        lines.append(f"({command}) > {number} 2> {number}.err")
    (home / "script").write_text("\n".join(lines))
    shutil.chown(home / "script", USER, USER)
    done = hooked(lab, user, "sh", home / "script", limit=90)
    assert (home / "0").exists(), done.stderr
    outputs = {
        name: (home / str(n)).read_text() + (home / f"{n}.err").read_text() for n, name in enumerate(PROGRAMS)
    }
    return outputs, lab.events(home / "state"), done.stderr


def build(home: Path) -> None:
    (home / "Plain.java").write_text(JAVA)
    (home / "program.go").write_text(GO)
    if shutil.which("go"):
        settings = {"CGO_ENABLED": "0", "GOCACHE": str(home / "go"), "HOME": str(home), "PATH": "/usr/bin:/bin"}
        subprocess.run(["go", "build", "-o", "program", "program.go"], cwd=home, env=settings, check=True)


def words(lab: Lab, user, *command: object, more: tuple[object, ...] = ()) -> list[str]:
    python, _, home = user
    return lab.lockgate(
        "run", "--state", home / "state", "--policy", lab.policy(), *more, "--", *command, python=python
    )


def hooked(lab: Lab, user, *command: object, more: tuple[object, ...] = (), **options) -> subprocess.CompletedProcess:
    """`lockgate run` of a command, as an ordinary user."""
    return lab.call(*words(lab, user, *command, more=more), user=USER, env=user[1], **options)


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_are_captured(ran, program):
    needed = {"python": "python3", "a chain": "curl"}.get(program, program.split()[0])
    if absent := missing(needed):
        pytest.skip(f"not installed: {absent}")
    assert PROGRAMS[program][1] in ran[0][program]


@pytest.mark.parametrize(
    ("program", "url", "exe"),
    [
        pytest.param("curl", "/version", "curl", id="curl"),
        pytest.param("python3", "/python", "python3", id="python"),
        pytest.param("git", "/repo.git/info/refs", "git-remote-http", id="git"),
        pytest.param("node", "/node", "node", id="node"),
        pytest.param("go", "/go", "program", id="a static program"),
        pytest.param("java", "/java", "java", id="java"),
    ],
)
def test_each_request_is_an_event_with_its_process(ran, program, url, exe):
    if absent := missing(program):
        pytest.skip(f"not installed: {absent}")
    events = [event for event in ran[1] if event.get("http", {}).get("url", "").startswith(url)]
    event = next(event for event in events if exe in event["process"]["exe"])
    assert (event["process"]["uid"], event["lockgate"]["verdict"]) == (USER, "pass")


def test_what_is_chosen_is_said(ran):
    assert "capture by hook" in ran[2]
