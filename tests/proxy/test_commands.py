"""Commands that start, stop and watch: what they make of their arguments, and what they say; live in tests/live/."""

import argparse
import json
import os
from pathlib import Path

import pytest

from proxy import cli, commands, running
from proxy.options import UsageError
from proxy.policy import load
from redirector.plan import Scope


@pytest.mark.parametrize(
    ("user", "group", "scope"),
    [
        pytest.param(None, None, Scope(), id="everything"),
        pytest.param("nobody", None, Scope(uid=65534), id="a user by name"),
        pytest.param("61234", None, Scope(uid=61234), id="a user by number"),
        pytest.param(None, "/user.slice/x", Scope(cgroup="/user.slice/x"), id="a group as /proc names it"),
        pytest.param(None, "user.slice/", Scope(cgroup="/user.slice"), id="a group, otherwise spelt"),
        pytest.param(None, "{mount}/user.slice", Scope(cgroup="/user.slice"), id="a group by its folder"),
        pytest.param("nosuch", None, "no user 'nosuch'", id="no such user"),
        pytest.param(None, "/", "whole computer", id="the root of all groups"),
        pytest.param("nobody", "/x", "not both", id="both"),
    ],
)
def test_scope(user, group, scope):
    from redirector.cgroups import mount

    arguments = argparse.Namespace(only_user=user, only_cgroup=group and group.format(mount=mount()))
    if isinstance(scope, str):
        with pytest.raises(UsageError, match=scope):
            commands._scope(arguments)
    else:
        assert commands._scope(arguments) == scope


def test_files_that_a_policy_names(tmp_path):
    for name in ("mine.py", "roots.pem", "hosts.txt", "more.txt"):
        (tmp_path / name).touch()
    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\ntls: {upstream: {trusted_ca: ./roots.pem}}\nfilters:\n"
        "  - {id: a, use: './mine.py:X', with: {deep: [{list: more.txt}, 3, absent.txt]}}\n"
        "  - {id: b, use: blocklist.Hosts, with: {hosts: [a.example], files: [hosts.txt]}}\n"
    )
    assert {file.name for file in commands.named_files(load(path), path)} == {
        "mine.py",
        "roots.pem",
        "hosts.txt",
        "more.txt",
    }


@pytest.mark.parametrize(
    ("message", "said"),
    [
        pytest.param(
            {"type": "ready", "listen": [["::1", 80]], "ca": "/ca.pem"}, "ready: nftables, proxy at ::1:80", id="ready"
        ),
        pytest.param(
            {"type": "ready", "listen": [], "ca": "", "existing": 3, "cut": False},
            "3 connections were open before: they go on",
            id="open connections",
        ),
        pytest.param(
            {"type": "ready", "listen": [], "ca": "", "existing": 3, "cut": True},
            "they were ended",
            id="cut connections",
        ),
        pytest.param(
            {"type": "reload-failed", "errors": ["p.yaml:1: x"]}, "the old one is:\n  p.yaml:1: x", id="a bad policy"
        ),
        pytest.param({"type": "restarting", "reason": "the proxy ended"}, "restarting: the proxy ended", id="a death"),
        pytest.param({"type": "failed", "errors": ["a", "b"]}, "failed: a: b", id="a failure"),
    ],
)
def test_what_is_said(message, said):
    assert said in "\n".join(commands._said(message, "nftables"))


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "run").mkdir(mode=0o755)
    (tmp_path / "state").mkdir()
    return "--state", str(tmp_path / "state"), "--run-dir", str(tmp_path / "run")


def test_nothing_runs(folders, capsys):
    assert cli.main(["status", *folders]) == 1
    assert "not running" in capsys.readouterr().out
    assert cli.main(["status", "--json", *folders]) == 1
    assert json.loads(capsys.readouterr().out) == {"running": None, "kernel": []}
    assert cli.main(["stop", *folders]) == 1
    assert "not running" in capsys.readouterr().out


def test_something_runs(folders, capsys):
    note = {"capture": "explicit", "listen": [["127.0.0.1", 8080]]}
    running.write(running.place(Path(folders[1]), folders[3]), note)
    assert cli.main(["status", *folders]) == 0
    assert capsys.readouterr().out == f"running: pid {os.getpid()}, explicit, proxy at 127.0.0.1:8080\n"


def test_events_of_a_state_folder(tmp_path, capsys):
    from proxy.events import lifecycle_event
    from proxy.schema import Events
    from proxy.sinks import open_log

    log = open_log(tmp_path, Events())
    for name in ("started", "reloaded"):
        log.emit(lifecycle_event(name, "x"))
    log.close()
    assert cli.main(["events", "--state", str(tmp_path), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["lockgate"]["event"] for row in rows] == ["started", "reloaded"]
    assert cli.main(["events", "--state", str(tmp_path), "--limit", "1", "--since", "1h"]) == 0
    assert "reloaded" in (shown := capsys.readouterr().out)
    assert "started" not in shown
