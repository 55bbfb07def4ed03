"""A policy file with one mistake gives one message that names its line; one with many names them all."""

import os
import time
from pathlib import Path

import pytest

from proxy.policy import MAX_DEPTH, MAX_POLICY, PolicyError, default_policy, load, parse

FULL = """\
version: 1
capture: {ports: [80, 443, 8443], quic: allow, fail: open, loopback: true, lan: true, existing: cut, other: relay}
tls:
  bypass: ["*.Bank.example", "label:health"]
  pinned: block
  upstream: {trusted_ca: roots.pem}
connections:
  - {id: lan, verdict: bypass, addresses: [192.0.2.0/24, "2001:db8::1"], ports: [443]}
  - {id: backup, verdict: block, apps: ["/usr/bin/*"], users: [ann, "1000"], ja4: ["t13*"], hosts: [a.example]}
filters:
  - id: secrets-out
    use: secrets.Secrets
    when: "~m POST"
    with: {rules: [aws, github]}
    mode: monitor
    on_error: allow
    deadline: 20
    buffer: 0
events: {sqlite: {max_mb: 1, max_days: 2}, jsonl: /var/log/lockgate.jsonl, on_full: block}
limits: {answer: 5}
"""


def errors(text, **options):
    with pytest.raises(PolicyError) as caught:
        parse(text if isinstance(text, bytes) else text.encode(), Path("policy.yaml"))
    assert str(caught.value) == "\n".join(caught.value.errors)
    return caught.value.errors


def test_everything(tmp_path):
    policy = parse(FULL.encode(), tmp_path / "policy.yaml")
    assert (policy.capture.ports, policy.capture.fail, policy.capture.other) == ((80, 443, 8443), "open", "relay")
    assert policy.tls.bypass == ("*.bank.example", "label:health")
    assert policy.tls.upstream.trusted_ca == tmp_path / "roots.pem", "relative to the policy file"
    assert [str(block) for block in policy.connections[0].addresses] == ["192.0.2.0/24", "2001:db8::1/128"]
    rule = policy.filters[0]
    assert (rule.id, rule.use, rule.options) == ("secrets-out", "secrets.Secrets", {"rules": ["aws", "github"]})
    assert (rule.mode, rule.on_error, rule.deadline, rule.buffer) == ("monitor", "allow", 20, 0)
    assert (rule.source.line, rule.source.get("with").line) == (11, 14)
    assert (policy.events.jsonl, policy.events.on_full) == (Path("/var/log/lockgate.jsonl"), "block")
    assert (policy.limits.answer, policy.limits.hello) == (5, 10)


def test_defaults():
    policy = parse(b"version: 1\n", Path("policy.yaml"))
    assert (policy.capture.ports, policy.capture.fail, policy.capture.quic) == ((80, 443), "closed", "reject")
    assert (policy.filters, policy.connections, policy.events.on_full) == ((), (), "drop")


def test_default_policy():
    assert [rule.use for rule in default_policy().filters] == ["classify.Http", "secrets.Secrets", "cards.Cards"]


@pytest.mark.parametrize(("text", "message"), [
    pytest.param("", "1: `version` is missing", id="empty file"),
    pytest.param("[]", "1: expected a mapping, got a list", id="no mapping"),
    pytest.param("version: 2", "1: version: expected 1, got 2", id="version"),
    pytest.param("version: '1'", '1: version: expected 1, got "1"', id="version as text"),
    pytest.param("version: true", "1: version: expected 1, got true", id="true is not 1"),
    pytest.param("version: 1\ncaptur: {}", "2: captur: unknown key; did you mean `capture`?", id="unknown key"),
    pytest.param("version: 1\nzzz: {}", "2: zzz: unknown key; known: version, capture, tls, connections, filters, "
                                        "events, limits", id="unknown key, nothing like it"),
    pytest.param("version: 1\ntls: {}\ntls: {}", "3: `tls` is given twice, first on line 2", id="duplicate key"),
    pytest.param("version: 1\nfilters:", "2: filters: expected a list (a mapping each), got nothing", id="null"),
    pytest.param("version: 1\ncapture:\n  ports: 443",
                 "3: capture.ports: expected a list (a whole number each), got 443", id="no list"),
    pytest.param("version: 1\ncapture: {ports: [80.5]}", "2: capture.ports[0]: expected a whole number, got 80.5",
                 id="fraction"),
    pytest.param("version: 1\ncapture: {ports: [true]}", "2: capture.ports[0]: expected a whole number, got true",
                 id="boolean as a number"),
    pytest.param("version: 1\ncapture: {ports: [0]}", "2: capture.ports[0]: expected 1 to 65535, got 0", id="bounds"),
    pytest.param("version: 1\ncapture: {ports: []}", "2: capture: `ports` is empty: nothing would be captured",
                 id="no port"),
    pytest.param("version: 1\nevents: {sqlite: {max_mb: 0}}", "2: events.sqlite.max_mb: expected 1 or more, got 0",
                 id="minimum"),
    pytest.param("version: 1\ncapture: {fail: maybe}", '2: capture.fail: expected closed or open, got "maybe"',
                 id="choice"),
    pytest.param("version: 1\ntls: {pinned: bypass}", '2: tls.pinned: expected block or learn, got "bypass"',
                 id="no bypass for whoever asks"),
    pytest.param("version: 1\ntls: {upstream: {exceptions: [{hosts: [a.example], accept: [known-bad]}]}}",
                 "2: tls.upstream.exceptions[0].accept[0]: 'known-bad' is not a rule that may be broken; those are: "
                 "untrusted, signature, expired, not-yet-valid, name, public-suffix, usage, constraints, weak, profile, "
                 "chain-too-long, revoked, must-staple, unchecked", id="exception without limits"),
    pytest.param("version: 1\ntls: {upstream: {exceptions: [{hosts: [a.example], fingerprint: 'aa:bb'}]}}",
                 "2: tls.upstream.exceptions[0].fingerprint: 'aa:bb' is not the SHA-256 of a certificate: "
                 "64 hexadecimal digits",
                 id="fingerprint"),
    pytest.param("version: 1\nconnections:\n- {id: a, verdict: bypass, ja4: [t13d*]}",
                 "3: connections[0]: any program can send that ClientHello: to bypass, name hosts, addresses, clients, "
                 "apps or users", id="bypass by what a client says of itself"),
    pytest.param("version: 1\nconnections:\n- {id: no, verdict: block}", "3: connections[0].id: `no` means false to YAML 1.1: "
                 "write false, or quote it if it is text",
                 id="an id that is no text"),
    pytest.param("version: 1\ntls: {bypass: [750]}", "2: tls.bypass[0]: expected text, got 750; quote it", id="text"),
    pytest.param("version: 1\ntls: {bypass: [a b]}", "2: tls.bypass[0]: 'a b' is not a host pattern: write host.example"
                                                     ", or *.host.example for names below it", id="host pattern"),
    pytest.param("version: 1\nconnections:\n- {id: a, verdict: block, addresses: [192.0.2.1/24]}",
                 "3: connections[0].addresses[0]: 192.0.2.1/24 has host bits set", id="CIDR"),
    pytest.param("version: 1\nfilters:\n- {id: a, use: x}\n- {id: a, use: y}",
                 '4: filters[1].id: another rule above has the id "a" too', id="repeated id"),
    pytest.param("version: 1\nfilters:\n- {use: x}", "3: filters[0]: `id` is missing", id="missing key"),
    pytest.param("version: 1\ntls: {upstream: {trusted_ca: 1}}", "2: tls.upstream.trusted_ca: expected a path, got 1",
                 id="path"),
])
def test_mistake(text, message):
    assert errors(text) == [f"policy.yaml:{message}"]


@pytest.mark.parametrize(("text", "message"), [
    pytest.param("on: 1", "`on` means true to YAML 1.1", id="on as a key"),
    pytest.param("capture: {lan: no}", "`no` means false to YAML 1.1: write false", id="no"),
    pytest.param("capture: {lan: Yes}", "`Yes` means true to YAML 1.1: write true", id="Yes"),
    pytest.param("capture: {ports: [12:30]}", "`12:30` is a number to YAML 1.1", id="base 60"),
    pytest.param("capture: {ports: [0777]}", "`0777` is a number to YAML 1.1", id="octal"),
    pytest.param("capture: {ports: [1_000]}", "`1_000` is a number to YAML 1.1", id="underscore"),
    pytest.param("tls: {bypass: [2026-01-01]}", "`2026-01-01` is a date to YAML 1.1: quote it", id="date"),
    pytest.param("80: 1", "the key `80` is not text: quote it", id="number as a key"),
    pytest.param("[a]: 1", "has no place here", id="list as a key"),
    pytest.param("tls: &a {}\ncapture:\n  <<: *a", "`<<` (merge) has no place here", id="merge key"),
    pytest.param("tls: !!python/object/apply:os.system [id]", "tls: expected a mapping, got a list", id="constructor"),
    pytest.param("tls: {bypass: !!binary aGk=}", "(binary) has no place here", id="binary"),
    pytest.param("capture: {ports: [" + "9" * 5000 + "]}", "is a number to YAML 1.1", id="huge number"),
    pytest.param("a: [", "not valid YAML", id="syntax"),
    pytest.param("a: b\n---\nc: d", "not valid YAML: but found another document", id="two documents"),
    pytest.param("a: *b", "not valid YAML: found undefined alias", id="undefined alias"),
    pytest.param("a: \0", "not valid YAML: unacceptable character", id="control character"),
    pytest.param(b"a: \xff", "1: not UTF-8", id="not UTF-8"),
    pytest.param("a: " + "[" * 2000, f"nested deeper than {MAX_DEPTH}", id="deep"),
    pytest.param("a: &a [*a]", "not valid YAML: ", id="recursive alias"),
    pytest.param("a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)),
        "aliases that expand too far", id="billion laughs"),
])
def test_yaml_trap(text, message):
    began = time.monotonic()
    found = errors(text)
    assert any(message in line for line in found), found
    assert time.monotonic() - began < 2


def test_all_mistakes_at_once_in_the_order_of_the_file():
    found = errors("version: 1\ncapture: {fial: closed, ports: [0]}\ntls: {pinned: no}\nfilters:\n- {id: 3}\n")
    assert [line.split(":")[1] for line in found] == ["2", "2", "3", "5", "5"]


def test_quoted_is_text():
    policy = parse(b'version: 1\ntls: {bypass: ["no", "on"]}', Path("policy.yaml"))
    assert policy.tls.bypass == ("no", "on")


@pytest.fixture
def file(tmp_path):
    tmp_path.chmod(0o700)
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\n")
    path.chmod(0o644)
    return path


def test_load(file):
    assert load(file, strict=True).version == 1


@pytest.mark.parametrize(("spoil", "message"), [
    pytest.param(lambda path: path.unlink(), "No such file", id="missing"),
    pytest.param(lambda path: path.write_bytes(b"#" * (MAX_POLICY + 1)), "larger than", id="too large"),
    pytest.param(lambda path: path.chmod(0o666), "other users may write", id="writable by others"),
    pytest.param(lambda path: path.chmod(0o664), "other users may write", id="writable by a group"),
    pytest.param(lambda path: path.parent.chmod(0o777), "other users may write", id="folder writable by others"),
    pytest.param(lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file", id="FIFO"),
    pytest.param(lambda path: (path.unlink(), path.mkdir()), "not a regular file", id="folder"),
])
def test_load_refuses(file, spoil, message):
    spoil(file)
    with pytest.raises(PolicyError, match=message):
        load(file, strict=True)


def test_who_may_write_does_not_matter_without_rights(file):
    file.chmod(0o666)
    assert load(file, strict=False).version == 1


def test_symlink_into_a_folder_of_others(file, tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    file.rename(loose / "real.yaml").chmod(0o644)
    loose.chmod(0o777)
    file.symlink_to(loose / "real.yaml")
    with pytest.raises(PolicyError, match="other users may write"):
        load(file, strict=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to give a file away")
def test_file_of_another_user(file, monkeypatch):
    os.chown(file, 4321, -1)
    with pytest.raises(PolicyError, match="belongs to user 4321"):
        load(file, strict=True)
    monkeypatch.setenv("SUDO_UID", "4321")
    assert load(file, strict=True).version == 1
