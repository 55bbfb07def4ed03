"""The database of events: what is found in it, what goes when, and what becomes of one that is damaged."""

import itertools
import sqlite3
import threading
import time
from contextlib import closing

import pytest

from addons.connection import Connection, Parent, Process
from proxy import sinks
from proxy.events import Outcome, connection_event, lifecycle_event
from proxy.sinks import Database, follow, read
from tests.proxy.test_sinks import event, urls


@pytest.fixture
def filled(tmp_path):
    database = Database(tmp_path, 64, 30)
    old = event(0) | {"timestamp": "2026-01-01T00:00:00.000000+00:00"}
    database.write([
        old,
        event(1, "host.example", "block", "ads", "ABC0123456"),
        event(2, "evilhost.example", exe="/opt/curl"),
        event(3, "www.host.example", "alert", "secrets-out", exe="/opt/b\udcffd"),
        event(4, "other.example", process=Process(
            5, "/usr/bin/git", user="ann", uid=1000, parents=(Parent(4, "/bin/sh"), Parent(3, "/opt/agent"), Parent(1)),
            service="ci.service", container="docker:3f4e")),
        lifecycle_event("stopped"),
        connection_event(Connection(None, ("192.0.2.9", 443), ("127.0.0.1", 1)), Outcome("bypass"), flow_id=9),
    ])
    database.close()
    return tmp_path


@pytest.mark.parametrize(("wanted", "ids"), [
    pytest.param({}, [0, 1, 2, 3, 4, None, 9], id="all"),
    pytest.param({"limit": 2}, [None, 9], id="the last ones, in order"),
    pytest.param({"host": "host.example"}, [0, 1, 3], id="host with subdomains"),
    pytest.param({"host": "192.0.2.9"}, [9], id="address where there is no name"),
    pytest.param({"app": "curl"}, [0, 1, 2], id="app by file name"),
    pytest.param({"app": "/opt/curl"}, [2], id="app by path"),
    pytest.param({"tree": "agent"}, [4], id="an ancestor by file name"),
    pytest.param({"tree": "/opt/agent"}, [4], id="an ancestor by path"),
    pytest.param({"tree": "gent"}, [], id="a part of a name"),
    pytest.param({"tree": "curl"}, [0, 1, 2], id="a tree has the program itself"),
    pytest.param({"user": "ann"}, [4], id="user"), pytest.param({"user": "1000"}, [4], id="uid"),
    pytest.param({"service": "ci.service"}, [4], id="service"),
    pytest.param({"container": "docker:3f4e"}, [4], id="container"),
    pytest.param({"verdict": "block"}, [1], id="verdict"),
    pytest.param({"filter": "secrets-out"}, [3], id="filter"),
    pytest.param({"incident": "abc-oi23456"}, [1], id="incident as one may type it"),
    pytest.param({"since": "1h"}, [1, 2, 3, 4, None, 9], id="age"),
    pytest.param({"since": "2025-01-01", "host": "host.example", "limit": 1}, [3], id="several"),
    pytest.param({"host": "' OR 1=1 --"}, [], id="no injection"),
    pytest.param({"host": None, "since": None}, [0, 1, 2, 3, 4, None, 9], id="None is no condition"),
])
def test_read(filled, wanted, ids):
    assert [each.get("flow_id") for each in read(filled, **wanted)] == ids


@pytest.mark.parametrize(("wanted", "error"), [({}, FileNotFoundError), ({"since": "yesterday"}, ValueError)])
def test_read_fails(tmp_path, wanted, error):
    if wanted:
        Database(tmp_path, 1, 1).close()
    with pytest.raises(error):
        list(read(tmp_path, **wanted))


def test_read_of_something_else(tmp_path):
    (tmp_path / sinks.DATABASE).write_text("no database, but long enough to be looked at" * 100)
    with pytest.raises(ValueError, match="not a database"):
        list(read(tmp_path))


@pytest.mark.parametrize("since", [None, "1h"])
def test_follow(tmp_path, since):
    """From now on, or from `since`; then whatever another process writes."""
    database = Database(tmp_path, 64, 30)
    database.write([event(1)])
    following = follow(tmp_path, since=since, host="host.example")
    if since:
        assert urls([next(following)]) == ["/1"]
    got = []
    reader = threading.Thread(target=lambda: got.extend(itertools.islice(following, 2)))
    reader.start()
    time.sleep(0.1)
    database.write([event(2), event(7, "other.example"), event(3)])
    reader.join(5)
    assert urls(got) == ["/2", "/3"]
    database.close()


def test_oldest_go_first_when_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "PRUNE", -1.0)
    database = Database(tmp_path, 1, 30)
    for n in range(0, 6000, 500):
        database.write([event(n + i) for i in range(500)])
    database.write([event(6000)])
    left = [each["flow_id"] for each in read(tmp_path)]
    assert left == list(range(left[0], 6001))
    assert 0 < left[0] < 6000
    assert (tmp_path / sinks.DATABASE).stat().st_size < 1.5 * 2**20
    database.close()


def test_too_old_go(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "PRUNE", -1.0)
    database = Database(tmp_path, 1, 30)
    database.write([event(1) | {"timestamp": "2020-01-01T00:00:00+00:00"}, event(2)])
    database.write([event(3)])
    assert urls(read(tmp_path)) == ["/2", "/3"]
    database.close()


def test_reopened(tmp_path):
    for n in range(3):
        database = Database(tmp_path, 1, 30)
        database.write([event(n)])
        database.close()
    assert urls(read(tmp_path)) == ["/0", "/1", "/2"]


def test_damaged_database_is_put_aside(tmp_path):
    (tmp_path / "events.db").write_text("something else " * 1000)
    database = Database(tmp_path, 1, 30)
    database.write([event()])
    assert urls(read(tmp_path)) == ["/0"]
    assert (tmp_path / "events.db.damaged").read_text().startswith("something else")
    database.close()


def test_database_of_another_version_is_left_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / "events.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(sqlite3.OperationalError, match="another version"):
        Database(tmp_path, 1, 30)


def test_indexes_serve_the_filters(tmp_path):
    Database(tmp_path, 1, 30).close()
    with closing(sqlite3.connect(tmp_path / "events.db")) as connection:
        for column in ("at", "host", "app", "verdict", "filter", "incident"):
            plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT * FROM events WHERE {column} = 1").fetchall()  # noqa: S608
            assert f"by_{column}" in str(plan)
