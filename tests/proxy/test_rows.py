"""What is shown, in which order, how wide, and what programs get."""

import json
import re

import pytest

from proxy.rows import KEYS, PROXY, Row, chosen, described, ordered
from proxy.screen import COLUMNS, PAST, amount, duration, place, table
from proxy.workers import Known

NOW = 1_000_000.0


def row(cookie=1, **more):
    fields = {"protocol": "tcp", "local": ("192.0.2.1", 5000), "remote": ("192.0.2.9", 443), "state": "ESTABLISHED",
              "first": NOW - 60, "began": True}
    return Row(cookie=cookie, **fields | more)


ROWS = [
    row(1, exe="/usr/bin/firefox", pid=10, user="me", host="www.a.example", sent=100, received=5000, verdict="inspect"),
    row(2, exe="/usr/bin/curl", pid=9, user="root", host="b.example", sent=None, received=None, first=NOW - 5,
        remote=("192.0.2.10", 80), verdict="block"),
    row(3, local=("0.0.0.0", 22), remote=("0.0.0.0", 0), state="LISTEN", exe="/usr/sbin/sshd", user="root"),
    row(4, exe="/usr/bin/python3", role=PROXY, local=("127.0.0.1", 8080)),
    row(5, state="TIME_WAIT"),
    row(6, protocol="udp", state="CONNECTED", exe="/usr/bin/firefox", remote=("2001:db8::1", 53), local=("2001:db8::2", 9)),
    row(7, state="CLOSE_WAIT", exe="/opt/Firefox/helper", remote=("192.0.2.9", 8443)),
]


@pytest.mark.parametrize(("asked", "cookies"), [
    pytest.param({}, {1, 2, 6, 7}, id="connections of applications"),
    pytest.param({"every": True}, {1, 2, 3, 4, 5, 6, 7}, id="all"),
    pytest.param({"listening": True}, {3}, id="what waits"),
    pytest.param({"every": True, "listening": True}, {3}, id="all that waits"),
    pytest.param({"app": "firefox"}, {1, 6, 7}, id="a program, whatever its case"),
    pytest.param({"host": "a.example"}, {1}, id="a host and what is below it"),
    pytest.param({"host": "example"}, {1, 2}, id="a whole domain"),
    pytest.param({"host": "192.0.2.10"}, {2}, id="an address"),
    pytest.param({"host": "xample"}, set(), id="part of a name"),
    pytest.param({"port": 443}, {1}, id="a port"),
    pytest.param({"port": 9}, {6}, id="an own port"),
    pytest.param({"state": "estab"}, {1, 2}, id="a state"),
    pytest.param({"state": "close-wait"}, {7}, id="a state as ss writes it"),
    pytest.param({"verdict": "block"}, {2}, id="a verdict"),
    pytest.param({"verdict": "none"}, {6, 7}, id="no verdict"),
    pytest.param({"user": "me"}, {1}, id="a user"),
    pytest.param({"app": "firefox", "port": 53}, {6}, id="all must hold"),
])
def test_chosen(asked, cookies):
    assert {each.cookie for each in filter(chosen(**asked), ROWS)} == cookies


@pytest.mark.parametrize(("column", "first"), [
    ("app", 2), ("pid", 2), ("user", 1), ("host", 2), ("received", 1), ("sent", 1), ("verdict", 2), ("age", 2),
    ("proto", 2), ("local", 3), ("remote", 3), ("state", 7)])
def test_each_column_sorts_and_the_unknown_comes_last(column, first):
    found = ordered(ROWS, column)
    assert found[0].cookie == first
    assert {each.cookie for each in found} == {each.cookie for each in ROWS}
    unknown = [KEYS[column](each) is None for each in found]
    assert unknown == sorted(unknown)


def test_addresses_sort_as_numbers():
    ends = [("192.0.2.100", 1), ("192.0.2.20", 80), ("192.0.2.20", 9), ("2001:db8::1", 1), ("10.0.0.1", 1)]
    found = ordered([row(n, remote=end) for n, end in enumerate(ends)], "remote")
    assert [each.cookie for each in found] == [4, 2, 1, 0, 3]


@pytest.mark.parametrize(("count", "text"), [
    (None, "-"), (0, "0"), (999, "999"), (1000, "1.0k"), (9949, "9.9k"), (9950, "10k"), (999_499, "999k"),
    (999_500, "1.0M"), (12_345_678, "12M"), (5 * 10**9, "5.0G"), (2**63, "9.2E")])
def test_amount(count, text):
    assert amount(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"),
                                               (86_399, "23h"), (86_400, "1d"), (99 * 86_400, "99d")])
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("end", "text"), [(("192.0.2.1", 5), "192.0.2.1:5"), (("2001:db8::1", 5), "[2001:db8::1]:5"),
                                           (("0.0.0.0", 22), "*:22"), (("::", 0), "*:*")])
def test_place(end, text):
    assert place(end) == text


@pytest.mark.parametrize("columns", [COLUMNS, PAST], ids=["now", "past"])
@pytest.mark.parametrize("width", [10_000, 200, 120, 100, 80, 60, 40, 20, 9, 1])
def test_no_line_is_wider_than_the_terminal_and_the_most_important_stay(width, columns):
    long = row(8, exe="/usr/bin/" + "x" * 60, host="h" * 200, remote=("2001:db8:1111:2222:3333:4444:5555:6666", 65535))
    lines = table([*ROWS, long], NOW, width, {1: "+"}, columns)
    assert len(lines) == len(ROWS) + 2
    assert max(map(len, lines)) <= width
    if width >= 60:
        assert all(title in lines[0] for title in ("APP", "REMOTE", "HOST", "SENT", "RECV", "VERDICT"))
    if width >= 200:
        assert all(column.title in lines[0] for column in columns)
    if width >= 20:
        assert lines[1].startswith("+ ")


def test_a_table_says_what_is_sure():
    lines = table([row(1, exe="/bin/a", host="h.example", host_from="address", began=False),
                   row(2, exe="/bin/b", host="h.example", host_from="connection"),
                   row(3, exe="/bin/c", began=False, first=NOW)], NOW, 10_000)
    assert re.search(r"^a .* ~h\.example .*>1m$", lines[1])
    assert re.search(r"^b .* h\.example .* 1m$", lines[2])
    assert re.search(r"^c .* -$", lines[3])


def test_an_empty_table_has_its_head():
    assert len(table([], NOW, 80)) == 1


def test_for_programs():
    known = Known(1, ("192.0.2.1", 5000), ("192.0.2.9", 443), ("127.0.0.1", 1), "a.example", True, "inspect", (), NOW, None)
    found = json.loads(json.dumps(described(row(1, known=known, exe="/bin/a", pid=3, labels=("x",), sent=0, ended=NOW - 30), NOW)))
    assert found == {
        "proto": "TCP", "state": "ESTABLISHED", "local_ip": "192.0.2.1", "local_port": 5000, "remote_ip": "192.0.2.9",
        "remote_port": 443, "host": None, "host_from": None, "pid": 3, "exe": "/bin/a", "user": None, "sent": 0,
        "received": None, "captured": True, "verdict": None, "labels": ["x"], "role": None,
        "started": "1970-01-12T13:45:40.000+00:00", "first_seen": "1970-01-12T13:45:40.000+00:00",
        "ended": "1970-01-12T13:46:10.000+00:00", "age": 30.0}
    assert described(row(1, began=False), NOW)["started"] is None
