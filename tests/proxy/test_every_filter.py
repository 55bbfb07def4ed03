"""One policy with every built-in filter: checked, explained, replayed, in force, watched only, and reloaded under load."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.registry import BUILT_IN
from tests.proxy.bulk import VALUE
from tests.proxy.conftest import running

CARD, IBAN = "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"
MEMO = " ".join(f"word{number} of the secret memorandum" for number in range(200))
#: id: (what is used, its options, method, path behind the id, headers, body) where it blocks.  Each has a path of its own.
CASES = {
    "hosts": ("blocklist.Hosts", "hosts: [other.test]", "GET", "", {}, ""),
    "categories": ("categories.Categories", "lists: [{category: ads, file: ./ads.txt}], block: [ads]", "GET", "", {}, ""),
    "canary": ("canary.Canary", "values: [canary-7Qx93bLm]", "POST", "", {}, "x canary-7Qx93bLm y"),
    "cards": ("cards.Cards", "minimum: 1", "POST", "", {}, f"card={CARD}"),
    "labels": ("classify.Labels", "block: ['op:graphql:mutation:*']", "POST", "", {"content-type": "application/json"},
               '{"query": "mutation drop { drop }"}'),
    "documents": ("documents.Documents", "index: ./memo.fp", "POST", "", {}, MEMO),
    "exact": ("exactdata.ExactData", "index: ./customers.edm", "POST", "", {}, "of Zebulon Quackenbush, sir"),
    "external": ("external.External", "program: ./word_watch.py, arguments: [walrus]", "POST", "", {}, "a walrus"),
    "files": ("filetypes.FileTypes", "kinds: [pdf]", "POST", "", {}, "%PDF-1.7\n%%EOF"),
    "icap": ("icap.Icap", "url: 'icap://127.0.0.1:9/none', modes: [reqmod]", "POST", "", {}, "x"),
    "words": ("keywords.Keywords", "terms: [operation walnut]", "POST", "", {}, "about Operation  Walnut."),
    "contents": ("limits.Contents", "block: [image], requests: true", "POST", "", {}, "GIF89a" + "\x01" * 60),
    "methods": ("limits.Methods", "block: [DELETE]", "DELETE", "", {}, ""),
    "quotas": ("limits.Quotas", "name: q, requests: 1", "GET", "", {}, ""),
    "sizes": ("limits.Sizes", "request: 3", "POST", "", {}, "four"),
    "times": ("limits.Times", "block: [00:00-24:00]", "GET", "", {}, ""),
    "llm": ("llm.Prompts", "block_prompts_to: ['*']", "POST", "/v1/chat/completions", {"content-type": "application/json"},
            '{"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}'),
    "pii": ("pii.Pii", "kinds: [iban]", "POST", "", {}, f"account {IBAN}"),
    "secrets": ("secrets.Secrets", "action: block", "POST", "", {}, f"key = {VALUE.decode()}"),
    "urls": ("urls.Rules", "rules: ['/urls^$important']", "GET", "", {}, ""),
}
HOST = {"hosts": "other.test", "categories": "a.wild.test"}


def policy(roots=None, mode="enforce"):
    trusted = f"tls: {{upstream: {{trusted_ca: {roots}}}}}\n" if roots else ""
    rules = [f"  - {{id: {name}, use: {case[0]}, when: '~u /{name}', deadline: 5000, mode: {mode}, with: {{{case[1]}}}}}\n"
             for name, case in CASES.items()]
    return f"version: 1\n{trusted}filters:\n  - {{id: classes, use: classify.Http}}\n{''.join(rules)}"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with what the filters read."""
    folder = tmp_path_factory.mktemp("every") / "files"
    (folder / "secret").mkdir(parents=True)
    (folder / "secret/memo.txt").write_text(MEMO)
    (folder / "customers.csv").write_text("name,city\nZebulon Quackenbush,Lockport\nArabella Winterbottom,Ely\n")
    (folder / "ads.txt").write_text("wild.test\n")
    shutil.copy(Path(__file__).parents[2] / "examples/word_watch.py", folder)
    assert main(["fingerprint", "values", f"{folder}/customers.csv", "--column", "name", "--out", f"{folder}/customers.edm"]) == 0
    assert main(["fingerprint", "documents", f"{folder}/secret", "--out", f"{folder}/memo.fp"]) == 0
    (folder / "policy.yaml").write_text(policy())
    (folder / "watch.yaml").write_text(policy(mode="monitor"))
    return folder


def test_every_filter_is_here():
    assert {case[0] for case in CASES.values()} | {"classify.Http"} == set(BUILT_IN)


@pytest.mark.parametrize("name", ["policy.yaml", "watch.yaml"])
def test_check(files, capsys, name):
    assert main(["check", str(files / name)]) == 0, capsys.readouterr()


def requests():
    for name, (_, _, method, path, headers, body) in CASES.items():
        yield name, {"url": f"https://{HOST.get(name, 'origin.test')}/{name}{path}", "method": method, "headers": headers,
                     "body": body}


@pytest.mark.parametrize(("file", "verdict"), [("policy.yaml", "block"), ("watch.yaml", "alert")])
def test_explain(files, tmp_path, capsys, file, verdict):
    asked = dict(requests())
    asked.pop("quotas")     # the second request is too many
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(each) + "\n" for each in asked.values()))
    main(["explain", "--requests", str(tmp_path / "asked.jsonl"), "--json", "--policy", str(files / file),
          "--state", str(tmp_path)])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {name: decided(row, verdict) for name, row in zip(asked, rows, strict=True)} == {name: name for name in asked}


def decided(row, verdict):
    """Which filter has blocked, or would have."""
    if verdict == "block":
        return row["rule"] if row["verdict"] == "block" else None
    found = {alert["rule"] for alert in row["alerts"] if row["verdict"] == "pass"}
    return found.pop() if len(found) == 1 else found


def har():
    entries = []
    for _, each in requests():
        post = {"postData": {"mimeType": each["headers"].get("content-type", "text/plain"), "text": each["body"]}}
        headers = [{"name": key, "value": value} for key, value in each["headers"].items()]
        entries.append({"startedDateTime": "2026-01-02T03:04:05Z", "time": 1, "request": {
            "method": each["method"], "url": each["url"], "httpVersion": "h2", "headers": headers,
            **(post if each["body"] else {})}, "response": {"status": 200, "httpVersion": "h2", "headers": [],
                                                            "content": {"text": "ok"}}})
    return json.dumps({"log": {"version": "1.2", "entries": entries}})


@pytest.mark.parametrize(("file", "verdict"), [("policy.yaml", "block"), ("watch.yaml", "alert")])
def test_replay(files, tmp_path, capsys, file, verdict):
    (tmp_path / "all.har").write_text(har())
    main(["replay", str(tmp_path / "all.har"), "--policy", str(files / file), "--json", "--state", str(tmp_path)])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = {name: decided(row, verdict) for name, row in zip(CASES, rows, strict=True)}
    del said["quotas"]      # how often that was asked is not in a file
    assert said == {name: name for name in CASES if name != "quotas"}


def test_scan(files, tmp_path, capsys):
    leaks = [name for name, case in CASES.items() if name in ("canary", "cards", "documents", "exact", "words", "pii", "secrets")]
    for name in leaks:
        (tmp_path / name).write_text(CASES[name][5])
    plain = tmp_path / "plain.yaml"     # a file has no URL that `when` could ask for
    plain.write_text(re.sub(r" when: '[^']*',", "", (files / "policy.yaml").read_text()).replace("./", f"{files}/"))
    assert main(["scan", str(tmp_path), "--policy", str(plain), "--json"]) == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {Path(row["file"]).name for row in found} >= set(leaks)


@pytest.fixture(scope="module")
def proxy(files, folder, origin):
    shutil.copytree(files, folder / "worker")
    with running(folder / "worker", policy(origin.roots)) as started:
        yield started


def ask(proxy, origin, name):
    each = dict(requests())[name]
    host, body = HOST.get(name, "origin.test"), each["body"].encode("latin-1")
    lines = "".join(f"{key}: {value}\r\n" for key, value in {"accept": "application/json", **each["headers"]}.items())
    path = each["url"].partition(host)[2]
    raw = f"{each['method']} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(body)}\r\n{lines}\r\n".encode() + body
    return proxy.ask(origin, raw, each["method"], host)


def test_all_in_force(proxy, origin):
    ask(proxy, origin, "quotas")
    said = {name: ask(proxy, origin, name) for name in CASES}
    assert {name: json.loads(answer.body).get("filter") for name, answer in said.items() if answer.status == 403} == {
        name: name for name in CASES}


def test_watching_and_reloading_under_load(proxy, origin):
    """Nothing is refused that is not to be, and nothing fails, while policies come and go."""
    answers, over = [], threading.Event()

    def load():
        while not over.is_set():
            answers.append(proxy.ask(origin, b"GET /fine HTTP/1.1\r\nhost: origin.test\r\n\r\n").status)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for mode in ("monitor", "enforce", "monitor"):
        proxy.reload(policy(origin.roots, mode))
        assert proxy.said("reloaded", 30)
        time.sleep(0.5)
    said = {name: ask(proxy, origin, name).status for name in CASES}
    over.set()
    for thread in threads:
        thread.join()
    assert set(answers) == {200}
    assert set(said.values()) == {200}
    alerts = {name for event in proxy.events() for name in re.findall(r'"filter": "(\w+)"', json.dumps(event))}
    assert alerts >= set(CASES)


def test_a_program_is_seen_to_end(files, tmp_path):
    """As users call it: nothing is said on standard error."""
    policy, body = tmp_path / "policy.yaml", tmp_path / "body"
    policy.write_text(f"version: 1\nfilters:\n  - {{id: words, use: external.External, deadline: 5000, "
                      f"with: {{program: {files}/word_watch.py, arguments: [walrus]}}}}\n")
    body.write_text("a walrus")
    command = [sys.executable, "-I", "-m", "proxy.cli", "explain", "https://x.example/", "--body-file", body, "--policy",
               policy, "--state", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("block by words")
