"""`lockgate explain` of a program that is only described: rules on who asks decide as they would on a connection."""

import json
import os
import pwd

import pytest

from addons.connection import Parent, Process
from proxy import assumed, cli

POLICY = """\
version: 1
connections:
  - {id: by-tree, verdict: block, trees: [/opt/agent]}
  - {id: by-user, verdict: bypass, users: ["0"]}
  - {id: by-unit, verdict: block, services: ["ci*.service"], containers: ["docker:*"]}
filters:
  - {id: at-door, use: blocklist.Hosts, with: {hosts: [a.example]}, when: "~user bob & ~m POST"}
  - {id: by-exe, use: secrets.Secrets, when: "~exe ^/usr/bin/curl$ & ~tree ^/bin/sh$ & !~user ann"}
"""
#: A request that `by-exe` would stop.
URL = "https://a.example/?key=AKIA" + "4QXB7ZKLMRTW2NPD"


@pytest.mark.parametrize(("words", "decided"), [
    pytest.param([], "", id="nobody"),
    pytest.param(["--app", "/usr/bin/curl"], "", id="a program without parents"),
    pytest.param(["--app", "/usr/bin/curl", "--parent", "/bin/sh"], "by-exe", id="with the parent"),
    pytest.param(["--app", "/usr/bin/curl", "--parent", "/bin/x", "--parent", "/bin/sh"], "by-exe", id="further up"),
    pytest.param(["--app", "/usr/bin/curl", "--parent", "/bin/sh", "--user", "ann"], "", id="of the excepted user"),
    pytest.param(["--user", "bob"], "at-door", id="a user whose connections a block list is for"),
    pytest.param(["--parent", "/opt/agent"], "by-tree", id="a child of the agent"),
    pytest.param(["--app", "/opt/agent"], "by-tree", id="the agent"),
    pytest.param(["--user", "root"], "by-user", id="a user by name, the rule by uid"),
    pytest.param(["--service", "ci7.service"], "", id="the service, but not the container"),
    pytest.param(["--service", "ci7.service", "--container", "docker:3f4e"], "by-unit", id="both"),
])
@pytest.mark.parametrize("how", ["words", "requests"])
def test_who_asks(tmp_path, capsys, words, decided, how):
    (tmp_path / "policy.yaml").write_text(POLICY)
    if how == "words":
        asked = [URL, *words]
    else:
        given = dict(zip((word[2:] for word in words[::2]), words[1::2]))
        parents = [value for word, value in zip(words[::2], words[1::2]) if word == "--parent"]
        (tmp_path / "requests").write_text(json.dumps({"url": URL, "parents": parents, **given}))
        asked = ["--requests", str(tmp_path / "requests")]
    assert cli.main(["explain", "--json", "--policy", str(tmp_path / "policy.yaml"), *asked]) == 0
    assert json.loads(capsys.readouterr().out)["rule"] == decided


@pytest.mark.parametrize(("user", "expected"), [
    pytest.param("root", ("root", 0), id="a name"), pytest.param("0", ("root", 0), id="a uid"),
    pytest.param("nobody-here", ("nobody-here", None), id="a name of another computer"),
    pytest.param("4294967000", ("4294967000", 4294967000), id="a uid without a name"),
    pytest.param("9" * 30, ("9" * 30, int("9" * 30)), id="no uid"),
])
def test_the_user(user, expected):
    found = assumed.process(None, user, (), None, None)
    assert (found.user, found.uid) == expected


def test_what_is_said_is_what_is_assumed():
    me = pwd.getpwuid(os.getuid())
    assert assumed.process(None, None, (), None, None) is None
    assert assumed.process("/a", me.pw_name, ["/b", "/c"], "d.service", "lxc:e") == Process(
        0, "/a", user=me.pw_name, uid=me.pw_uid, parents=(Parent(0, "/b"), Parent(0, "/c")), service="d.service",
        container="lxc:e")


@pytest.mark.parametrize(("request_", "code"), [
    pytest.param({"user": 1000}, 0, id="a uid as a number"), pytest.param({"parents": []}, 0, id="no parents"),
    pytest.param({"parents": [1]}, 0, id="a strange parent"), pytest.param({"parents": "/bin/sh"}, 2, id="no list"),
    pytest.param({"parents": None}, 2, id="nothing"),
])
def test_lines_of_others(tmp_path, capsys, request_, code):
    (tmp_path / "requests").write_text(json.dumps({"url": URL, **request_}))
    assert cli.main(["explain", "--requests", str(tmp_path / "requests")]) == code
    assert ("not a request" in capsys.readouterr().err) is (code == 2)
