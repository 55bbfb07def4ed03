"""What a real browser makes of refusals: nothing is broken, and a page's script can read why."""

import json
import re
from pathlib import Path

import pytest

from tests.live.lab import missing

pytestmark = pytest.mark.live
PROXY = "127.0.0.1:8080"
CHROMIUM = ("chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --ignore-certificate-errors "
            "--user-data-dir=$PWD/profile --virtual-time-budget=8000 --window-size=700,500 "
            f"--proxy-server=http://{PROXY} ")
POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
filters:
  - {{id: words, use: urls.Rules, with: {{rules: ["||git.test/words/$all"]}}}}
  - {{id: hidden, use: urls.Rules, answer: placeholder, with: {{rules: ["||git.test/hidden/"]}}}}
  - {{id: cut, use: urls.Rules, answer: reset, with: {{rules: ["||git.test/cut/"]}}}}
"""
PAGE = """<!doctype html><title>parts</title><h1>A page with blocked parts</h1><pre id=out></pre><script>
const seen = {}, jobs = [];
for (const way of ["words", "hidden", "cut"]) {
  const base = "https://git.test/" + way + "/";
  for (const [tag, name] of [["img", "src"], ["script", "src"], ["iframe", "src"], ["link", "href"]]) {
    jobs.push(new Promise(done => {
      const part = document.createElement(tag);
      if (tag == "link") part.rel = "stylesheet";
      part.onload = () => { seen[way + " " + tag] = tag == "img" ? "load " + part.naturalWidth : "load"; done(); };
      part.onerror = () => { seen[way + " " + tag] = "error"; done(); };
      part[name] = base + tag;
      document.body ? document.body.append(part) : document.documentElement.append(part);
    }));
  }
  jobs.push(fetch(base + "api").then(
    answer => { seen[way + " fetch"] = answer.status + " " + answer.headers.get("x-lockgate-reason"); },
    () => { seen[way + " fetch"] = "error"; }));
}
const limit = new Promise(done => setTimeout(done, 5000));
Promise.race([Promise.all(jobs), limit]).then(() => { out.textContent = JSON.stringify(seen, null, 1); });
</script>"""


def reason(way):
    options = "$all" if way == "words" else ""
    return f"URL is blocked: ||git.test/{way}/{options} in rules:1"


@pytest.fixture(scope="module")
def served(lab, tmp_path_factory):
    if absent := missing("chromium"):
        pytest.skip(f"not installed: {absent}")
    (lab.folder / "www/parts.html").write_text(PAGE)
    state = tmp_path_factory.mktemp("state") / "state"
    policy = lab.policy("refusals.yaml", POLICY)
    with lab.start("--capture", "explicit", "--listen", PROXY, state=state, policy=policy) as started:
        (lab.folder / "ours.pem").write_bytes(Path(started.ready["ca"]).read_bytes())
        yield state


def test_parts_of_a_page(lab, served, tmp_path):
    done = lab.call("sh", "-c", f"{CHROMIUM} --dump-dom https://origin.test/parts.html", cwd=tmp_path, limit=90)
    found = re.search(r"<pre id=\"out\">(.+?)</pre>", done.stdout, re.DOTALL)
    assert found, done.stdout + done.stderr
    seen = json.loads(found[1].replace("&amp;", "&"))
    assert {name: what for name, what in seen.items() if name.startswith("words")} == {
        "words img": "load 1", "words script": "error", "words link": "error", "words iframe": "load",
        "words fetch": f"403 {reason('words')}"}
    assert {name: what for name, what in seen.items() if name.startswith("hidden")} == {
        "hidden img": "load 1", "hidden script": "load", "hidden link": "load", "hidden iframe": "load",
        "hidden fetch": f"403 {reason('hidden')}"}
    assert {seen[f"cut {part}"] for part in ("img", "script", "link", "fetch")} == {"error"}


@pytest.mark.parametrize(("url", "name"), [
    ("https://git.test/words/page", "page"), ("https://origin.test/parts.html", "parts")])
def test_screenshot(lab, served, tmp_path, url, name):
    """A picture for people; that there is one is all that a program can say."""
    lab.call("sh", "-c", f"{CHROMIUM} --screenshot={tmp_path}/{name}.png {url}", cwd=tmp_path, limit=90)
    assert (tmp_path / f"{name}.png").stat().st_size > 2000


@pytest.mark.parametrize(("words", "expected"), [
    ("https://git.test/words/x.js", ('"detail": "URL is blocked', "403")),
    ("-H 'accept: text/html' https://git.test/words/", ("<h1>Blocked by policy</h1>", "403")),
    ("-H 'content-type: application/grpc' --http2 -i https://git.test/words/", ("grpc-status: 7", "200")),
    ("https://git.test/cut/", ("", "000")),
])
def test_curl(lab, served, words, expected):
    command = f"curl -sS --cacert {lab.folder / 'ours.pem'} --proxy http://{PROXY} -w '%{{http_code}}' {words}"
    done = lab.call("sh", "-c", command)
    assert expected[0] in done.stdout
    assert done.stdout.endswith(expected[1])
