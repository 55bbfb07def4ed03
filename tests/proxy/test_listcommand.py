"""`lockgate lists`: what is there, and getting new lists without ever losing a good one."""

import hashlib
import http.server
import json
import ssl
import threading
from typing import ClassVar

import pytest

from certs.authority import Authority
from proxy import cli, downloading
from proxy.downloading import Refused, update

LIST = b"! title\n||ads.example^\n" + b"||b.example^\n" * 20


class Answers(http.server.BaseHTTPRequestHandler):
    """Serves what the test says, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    given: ClassVar[dict] = {}
    asked: ClassVar[list] = []

    def do_GET(self):
        self.asked.append(dict(self.headers))
        status, headers, body = self.given[self.path]
        if self.headers.get("If-None-Match") and self.headers["If-None-Match"] == headers.get("ETag"):
            status, body = 304, b""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    authority = Authority.load_or_create(folder)
    leaf = authority.issue(("localhost",))
    (folder / "pair.pem").write_bytes(leaf.chain_pem + leaf.key_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "pair.pem")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as served:
        served.socket = context.wrap_socket(served.socket, server_side=True)
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"https://localhost:{served.server_port}", authority.pem_path
        served.shutdown()


@pytest.fixture
def get(server, tmp_path):
    Answers.given, Answers.asked = {}, []
    url, roots = server
    context = ssl.create_default_context(cafile=str(roots))

    def fetch(answer=(200, {}, LIST), path="/list.txt", **options):
        Answers.given[path] = answer
        return update(tmp_path / "lists/a.txt", url + path, context=context, **options)

    fetch.file = tmp_path / "lists/a.txt"
    fetch.url = url
    return fetch


def test_a_list_is_got_and_then_asked_for_by_its_version(get):
    assert get((200, {"ETag": '"1"'}, LIST)).startswith("updated")
    assert get.file.read_bytes() == LIST
    assert get((200, {"ETag": '"1"'}, LIST)) == "unchanged"
    assert Answers.asked[-1]["If-None-Match"] == '"1"'
    get.file.write_bytes(LIST + b"||mine.example^\n")       # somebody has changed it: not the one that came
    assert get((200, {"ETag": '"1"'}, LIST)).startswith("updated")


@pytest.mark.parametrize(("answer", "message"), [
    pytest.param((200, {}, b"<!DOCTYPE html><html>login</html>" * 100), "a page", id="an error page"),
    pytest.param((200, {}, b"\x1f\x8b\x08" + b"x" * 1000), "an archive", id="compressed"),
    pytest.param((200, {}, b"\0" * 1000), "not a list", id="binary"),
    pytest.param((200, {}, b""), "empty", id="empty"),
    pytest.param((200, {}, LIST[:100]), "shrunk", id="much smaller"),
    pytest.param((404, {}, b"no"), "404", id="not found"),
    pytest.param((302, {"Location": "http://127.0.0.1/x"}, b""), "not https", id="leads to plain HTTP"),
    pytest.param((200, {"Content-Length": "100000"}, LIST), "came", id="cut off"),
])
def test_what_is_no_better_is_refused(get, answer, message):
    get()
    with pytest.raises(Refused, match=message):
        get(answer)
    assert get.file.read_bytes() == LIST
    assert sorted(path.name for path in get.file.parent.iterdir()) == [".a.txt.source", "a.txt"]


def test_force_takes_a_smaller_list(get):
    get()
    get((200, {}, LIST[:100]), force=True)
    assert get.file.read_bytes() == LIST[:100]


def test_a_pinned_list(get):
    get(sha256=hashlib.sha256(LIST).hexdigest())
    with pytest.raises(Refused, match="SHA-256"):
        get((200, {}, LIST + b"x"), sha256=hashlib.sha256(LIST).hexdigest())


def test_bounds(get, monkeypatch):
    monkeypatch.setattr(downloading, "MAX_BYTES", 100)
    with pytest.raises(Refused, match="larger"):
        get()
    monkeypatch.setattr(downloading, "MAX_BYTES", 10_000)
    monkeypatch.setattr(downloading, "TOTAL", -1)
    with pytest.raises(Refused, match="within"):
        get()
    assert not get.file.exists()


def test_only_https(tmp_path):
    for url in ("http://lists.example/x", "file:///etc/passwd", "ftp://x/y"):
        with pytest.raises(Refused, match="not https"):
            update(tmp_path / "x", url)


def test_an_unknown_certificate(server, tmp_path):
    with pytest.raises(Refused, match="certificate"):
        update(tmp_path / "x", server[0] + "/list.txt")


def test_the_command(tmp_path, capsys):
    policy = tmp_path / "policy.yaml"
    (tmp_path / "a.txt").write_bytes(LIST)
    policy.write_text("version: 1\nfilters:\n"
                      "  - {id: ads, use: urls.Rules, with: {lists: [{file: a.txt}, {file: b.txt, url: 'https://localhost:1/'}]}}\n"
                      "  - {id: kinds, use: categories.Categories, with: {lists: [{category: x, file: c.txt}]}}\n")
    assert cli.main(["lists", "--policy", str(policy), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["filter"], row["file"].rpartition("/")[2], row["bytes"]) for row in rows] == [
        ("ads", "a.txt", len(LIST)), ("ads", "b.txt", None), ("kinds", "c.txt", None)]
    assert cli.main(["lists", "update", "--policy", str(policy)]) == 1
    assert "not updated" in capsys.readouterr().out
    assert cli.main(["lists"]) == 2
