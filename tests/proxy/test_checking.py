"""`lockgate check` names every mistake; `lockgate filters` shows what there is."""

import json

import pytest

from proxy import cli

TEN_MISTAKES = """\
version: 1
capture: {ports: [80, 99999], fail: maybe}
tls: {bypas: [x], bypass: ["*"], upstream: {trusted_ca: 7}}
connections:
  - {id: a, verdict: stop}
  - {id: a, verdict: block, ports: [0]}
filters:
  - {use: cards.Cards}
  - {id: b, use: cards.Cards, deadline: soon}
"""
BAD_FILTERS = """\
version: 1
filters:
  - {id: a, use: blocklist.Host}
  - {id: b, use: cards.Cards, with: {minimum: many, colour: red}}
  - {id: c, use: secrets.Secrets, when: "~q ("}
  - {id: d, use: ./absent.py:X}
"""


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        pytest.param(
            TEN_MISTAKES,
            [
                "ports[1]",
                "fail",
                "bypas",
                "bypass[0]",
                "trusted_ca",
                "connections[0].verdict",
                "connections[1].ports[0]",
                'the id "a" too',
                "`id` is missing",
                "deadline",
            ],
            id="in the file",
        ),
        pytest.param(
            BAD_FILTERS, ["blocklist.Hosts?", "colour", "minimum", "filters[2].when", "absent.py"], id="in the filters"
        ),
    ],
)
def test_all_mistakes_are_named_at_once_with_their_lines(tmp_path, capsys, text, mistakes):
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    assert cli.main(["check", str(path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert all(line.startswith(f"{path}:") for line in said)
    assert [mistake for mistake in mistakes if not any(mistake in line for line in said)] == []
    assert cli.main(["check", str(path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {"ok": False, "errors": said}


def test_a_good_policy_is_described(tmp_path, capsys):
    (tmp_path / "whole.py").write_text("class Whole:\n    def request(self, flow): ...\n")
    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\nfilters:\n  - {id: a, use: cards.Cards, mode: monitor}\n  - {id: b, use: ./whole.py:Whole}\n"
    )
    assert cli.main(["check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "a: cards.Cards, monitor, on error block\n" in said
    assert (
        "b: ./whole.py:Whole, enforce, on error block; collects whole messages (request), up to 1048576 bytes\n" in said
    )
    assert cli.main(["check", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "filters": ["a", "b"]}


def test_filters_are_shown_with_their_options(capsys):
    assert cli.main(["filters"]) == 0
    assert "cards.Cards\n  Payment-card numbers" in (shown := capsys.readouterr().out)
    assert "\n    minimum: 1\n" in shown
    assert cli.main(["filters", "--json"]) == 0
    rows = {row["use"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["cards.Cards"]["options"].items() >= {"processors": [], "action": "block", "minimum": 1, "responses": False}.items()


def test_files_of_secrets_are_looked_at(tmp_path, capsys):
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\ncapture: {upstream_proxy: 'http://a.test:1', upstream_proxy_username: me, "
                    "upstream_proxy_password_file: secret}\n")
    for prepare, words in ((lambda: None, "No such file"), (lambda: (tmp_path / "secret").touch(0o644), "chmod 600")):
        prepare()
        assert cli.main(["check", str(path)]) == 2
        assert words in capsys.readouterr().err
    (tmp_path / "secret").chmod(0o600)
    assert cli.main(["check", str(path)]) == 0
