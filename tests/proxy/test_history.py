"""A real database: what is written is read, bounded, and nobody else's."""

import os
import sqlite3
import time

import pytest

from proxy import history
from proxy.history import DATABASE, History, folder_of, make_folder, read, since_when
from proxy.rows import Row


def row(cookie=1, first=None, ended=None, **more):
    first = time.time() if first is None else first
    return Row("tcp", ("192.0.2.1", 5000), ("192.0.2.9", 443), "ESTABLISHED", cookie, first, True, ended, **more)


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "state")


@pytest.fixture
def database(folder):
    found = History(folder, 1000, 30)
    yield found
    found.close()


def test_everything_is_written_and_read_back(folder, database):
    sent = row(sent=5, received=7, pid=3, exe="/usr/bin/a", user="me", host="a.example", host_from="connection",
               verdict="block", labels=("x", "y"), ended=time.time(), recorded=True)
    database.write([sent])
    found, = read(folder)
    assert all(getattr(found, name) == getattr(sent, name) for name in Row.__slots__)
    assert found.captured


def test_a_connection_has_one_row_however_often_it_is_written(folder, database):
    database.write([row(first=10.0)])
    assert since_when(folder) == {1: 10.0}
    database.write([row(first=10.0, ended=20.0, sent=3)])
    assert [(each.ended, each.sent) for each in read(folder)] == [(20.0, 3)]
    assert since_when(folder) == {}


def test_the_newest_come_first_page_by_page_and_since_when(folder, database, monkeypatch):
    monkeypatch.setattr(history, "PAGE", 7)
    now = time.time() - 100
    database.write([row(n, first=now + n // 2, ended=now + n + 0.5) for n in range(100)])
    assert [each.cookie for each in read(folder)] == [*range(99, -1, -1)]
    assert [each.cookie for each in read(folder, since=now + 90)] == [*range(99, 89, -1)]


def test_it_is_bounded_in_rows_and_age(folder, monkeypatch):
    monkeypatch.setattr(history, "PRUNE", -1.0)
    database, now = History(folder, 10, 2), time.time()
    database.write([row(n, first=now, ended=now) for n in range(30)])
    database.write([row(100, first=now - 5 * 86_400, ended=now - 3 * 86_400)])
    database.write([])
    assert [each.cookie for each in read(folder)] == [*range(29, 19, -1)]
    database.close()


def test_what_an_earlier_recorder_saw_open_is_open_still_or_lost(folder, database):
    database.write([row(1), row(2)])
    database.begin([row(2)])
    assert {each.cookie: each.state for each in read(folder)} == {1: "LOST", 2: "ESTABLISHED"}
    assert list(since_when(folder)) == [2]


def test_cookies_are_counted_anew_at_each_boot(folder, database):
    database.write([row(1)])
    database._boot = "another"
    database.begin([row(1)])
    database.write([row(1)])
    assert sorted(each.state for each in read(folder)) == ["ESTABLISHED", "LOST"]


def test_only_the_owner_may_read(folder, database):
    database.write([row()])
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_folder_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ValueError, match="others may write there"):
        make_folder(tmp_path / "open" / "state-history")
    (tmp_path / "state-history").mkdir()
    (tmp_path / "state-history").chmod(0o770)
    with pytest.raises(ValueError, match="root alone may write"):
        make_folder(tmp_path / "state-history")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_root_writes_into_no_folder_of_others(tmp_path):
    (tmp_path / "state-history").mkdir()
    os.chown(tmp_path / "state-history", 65534, 65534)
    with pytest.raises(ValueError, match="root alone may write"):
        make_folder(tmp_path / "state-history")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    with pytest.raises(ValueError, match="others may write there"):
        make_folder(tmp_path / "theirs" / "state-history")


def test_a_link_is_not_followed(tmp_path, folder):
    make_folder(folder)
    (folder / DATABASE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        History(folder, 10, 1)
    assert not (tmp_path / "elsewhere").exists()


def test_none_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no history here"):
        next(read(tmp_path))
    assert since_when(tmp_path) == {}


def test_a_file_of_another_kind_is_said(folder):
    make_folder(folder)
    (folder / DATABASE).write_text("no database at all, but long enough to be looked at as one" * 20)
    with pytest.raises(ValueError, match="not a database"):
        next(read(folder))
    with pytest.raises(sqlite3.DatabaseError):
        History(folder, 10, 1)


def test_that_of_another_version_is_left_alone(folder, database):
    database._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(sqlite3.OperationalError, match="another version"):
        History(folder, 10, 1)
