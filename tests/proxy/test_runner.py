"""Profiles and accounts of `lockgate run`; the rest is in tests/live/test_run.py."""

from pathlib import Path

import pytest

from certs.user import User
from proxy.runner import account, choose, own_profile

PROFILE = Path("/tmp/own/profile")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(
            ["chromium", "https://a.example"],
            ["chromium", f"--user-data-dir={PROFILE}", "https://a.example"],
            id="chromium",
        ),
        pytest.param(
            ["/opt/google/chrome/google-chrome"],
            ["/opt/google/chrome/google-chrome", f"--user-data-dir={PROFILE}"],
            id="by path",
        ),
        pytest.param(
            ["firefox", "-new-tab", "x"],
            ["firefox", "--no-remote", "--profile", str(PROFILE), "-new-tab", "x"],
            id="firefox",
        ),
        pytest.param(["chromium", "--user-data-dir=/mine"], None, id="a profile that is named"),
        pytest.param(["firefox", "-P", "work"], None, id="a profile by name"),
        pytest.param(["curl", "https://a.example"], None, id="no browser"),
    ],
)
def test_browsers_get_a_profile_of_their_own(command, expected):
    told = []
    assert own_profile(command, PROFILE, told.append) == (expected or command)
    assert bool(told) == bool(expected)


def test_another_name_of_a_browser_is_seen_through(tmp_path, monkeypatch):
    (tmp_path / "chromium").touch(0o755)
    (tmp_path / "x-www-browser").symlink_to("chromium")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert own_profile(["x-www-browser"], PROFILE, lambda _: None) == ["x-www-browser", f"--user-data-dir={PROFILE}"]


@pytest.mark.parametrize(
    ("uid", "variables"),
    [
        pytest.param(
            65534,
            {"HOME": "/nonexistent", "USER": "nobody", "LOGNAME": "nobody", "SHELL": "/usr/sbin/nologin"},
            id="another",
        ),
        pytest.param(0, {}, id="ourselves"),
    ],
)
def test_the_account_is_the_callers(monkeypatch, uid, variables):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert account(User(uid, uid, Path("/"))) == variables


@pytest.mark.parametrize(("uid", "asked", "why", "expected", "said"), [
    pytest.param(0, "auto", None, "nftables", "", id="root"),
    pytest.param(1000, "auto", None, "hook", "capture by hook", id="not root"),
    pytest.param(1000, "auto", "no such thing", "explicit", "no such thing", id="not root, and it cannot be had"),
    pytest.param(0, "hook", None, "hook", "", id="asked for"),
    pytest.param(1000, "explicit", None, "explicit", "", id="variables, asked for"),
])
def test_what_captures_is_chosen_and_said(monkeypatch, uid, asked, why, expected, said):
    monkeypatch.setattr("os.geteuid", lambda: uid)
    monkeypatch.setattr("redirector.trial.obstacle", lambda: why)
    told = []
    assert choose(asked, told.append) == expected
    assert said in "".join(told)
    assert bool(told) == bool(said)


@pytest.mark.parametrize(("asked", "message"), [("nftables", "needs root"), ("hook", "hook: no such thing")])
def test_what_cannot_be_had_is_refused(monkeypatch, asked, message):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("redirector.trial.obstacle", lambda: "no such thing")
    with pytest.raises(ValueError, match=message):
        choose(asked, print)
