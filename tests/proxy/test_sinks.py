"""Real files, a real database, and disks that are really full (a file size limit; a tiny tmpfs)."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from addons.connection import Connection, Process
from proxy import sinks
from proxy.events import Http, Outcome, http_event
from proxy.schema import Events, Sqlite
from proxy.sinks import Database, EventLog, JsonLines, StandardOutput, open_log, read

ROOT = Path(__file__).parents[2]


def event(number=0, host="www.host.example", verdict="inspect", rule="", incident="", exe="/usr/bin/curl", process=None):
    conn = Connection(host, ("192.0.2.1", 443), ("127.0.0.1", 50_000), process or Process(1, exe))
    outcome = Outcome(verdict, rule, "reason", incident)
    return http_event(conn, outcome, Http(host, f"/{number}", "GET", "HTTP/1.1"), flow_id=number)


def urls(events):
    return [each["http"]["url"] for each in events]


def wait_for(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


class Broken:
    """A sink that fails until it is mended."""

    def __init__(self):
        self.broken, self.seen, self.attempts = True, [], 0

    def write(self, events):
        self.attempts += 1
        if self.broken:
            raise OSError(28, "No space left on device")
        self.seen += events

    def close(self):
        pass


def test_everything_is_written_and_read_back(tmp_path):
    state = tmp_path / "state"
    log = open_log(state, Events(jsonl=tmp_path / "events.jsonl"))
    sent = [event(n) for n in range(1200)]
    for each in sent:
        log.emit(each)
    log.close()
    assert list(read(state)) == sent
    assert [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()] == sent
    assert log.healthy


def test_only_the_owner_may_read(tmp_path):
    state = tmp_path / "state"
    log = open_log(state, Events(jsonl=tmp_path / "events.jsonl"))
    log.emit(event())
    wait_for(lambda: list(read(state)))
    assert state.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in [*state.iterdir(), tmp_path / "events.jsonl"]} == {0o600}
    log.close()


def test_json_lines_rotate(tmp_path, monkeypatch):
    monkeypatch.setattr(sinks, "MAX_JSONL", 1000)
    path = tmp_path / "events.jsonl"
    lines = JsonLines(path)
    for n in range(30):
        lines.write([event(n)])
    lines.close()
    names = [path, *(tmp_path / f"events.jsonl.{n}" for n in range(1, sinks.KEPT_JSONL + 1))]
    assert sorted(tmp_path.iterdir()) == sorted(names)
    kept = [json.loads(line)["flow_id"] for name in reversed(names) for line in name.read_text().splitlines()]
    assert kept == list(range(kept[0], 30))
    assert all(name.stat().st_mode & 0o777 == 0o600 for name in names)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="no O_NOFOLLOW here")
def test_json_lines_do_not_follow_a_link(tmp_path):
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        JsonLines(tmp_path / "events.jsonl")


def test_standard_output(capsys):
    StandardOutput().write([event(1), event(2)])
    assert urls(map(json.loads, capsys.readouterr().out.splitlines())) == ["/1", "/2"]


def test_drop_loses_counts_and_goes_on(monkeypatch):
    monkeypatch.setattr(sinks, "RETRY", 0.05)
    sink = Broken()
    log = EventLog([sink], "drop")
    for n in range(3):
        log.emit(event(n))
    wait_for(lambda: sink.attempts)
    assert log.healthy
    time.sleep(0.1)
    sink.broken = False
    log.emit(event(3))
    log.close()
    assert sink.seen[0]["lockgate"]["reason"] == "3 could not be written: [Errno 28] No space left on device"
    assert urls(sink.seen[1:]) == ["/3"]


def test_block_keeps_and_is_unhealthy_until_it_is_written(monkeypatch):
    monkeypatch.setattr(sinks, "RETRY", 0.05)
    sink = Broken()
    log = EventLog([sink], "block")
    assert log.healthy
    for n in range(3):
        log.emit(event(n))
    wait_for(lambda: not log.healthy)
    sink.broken = False
    wait_for(lambda: log.healthy)
    log.close()
    assert urls(sink.seen) == ["/0", "/1", "/2"]


def test_a_broken_sink_does_not_stop_the_others_and_is_not_asked_all_the_time():
    broken, good = Broken(), Broken()
    good.broken = False
    log = EventLog([broken, good], "block")
    for n in range(50):
        log.emit(event(n))
        time.sleep(0.002)
    wait_for(lambda: len(good.seen) == 50)
    assert broken.attempts == 1
    broken.broken = False
    log.close()
    assert urls(broken.seen) == urls(good.seen), "close tries once more"


def test_a_full_queue(monkeypatch):
    """More than can be written: nothing waits, what is lost is counted, and `block` is unhealthy meanwhile."""
    monkeypatch.setattr(sinks, "MAX_QUEUE", 10)
    sink, gate = Broken(), threading.Event()
    sink.broken = False
    plain = sink.write
    sink.write = lambda events: (gate.wait(5), plain(events))
    log = EventLog([sink], "block")
    log.emit(event(0))
    wait_for(lambda: log._queue.empty())
    for n in range(1, 16):
        log.emit(event(n))
    assert (log.lost, log.healthy) == (5, False)
    gate.set()
    log.close()
    assert [each["lockgate"].get("reason") for each in sink.seen if each["event_type"] == "lockgate"] == [
        "5 came faster than they are written"]
    assert len(sink.seen) == 12


def test_an_event_that_json_does_not_know(tmp_path):
    log = open_log(tmp_path, Events())
    log.emit(event() | {"odd": {1, 2}.__iter__})
    log.emit(event(1))
    log.close()
    assert urls(read(tmp_path)) == ["/0", "/1"]


def test_emit_is_cheap():
    log, one = EventLog([Broken()]), event()
    began = time.perf_counter()
    for _ in range(1000):
        log.emit(one)
    assert (time.perf_counter() - began) / 1000 < 20e-6
    log.close()


def in_subprocess(script, folder, *prefix):
    head = """
        import resource, sys, time
        from pathlib import Path
        from proxy.events import lifecycle_event
        from proxy.schema import Events
        from proxy import sinks
        from proxy.sinks import open_log, read
        folder = Path(sys.argv[1])
        sinks.RETRY = 0.05
        def wait_for(condition):
            end = time.monotonic() + 5
            while not condition():
                assert time.monotonic() < end
                time.sleep(0.01)
    """
    done = subprocess.run([*prefix, sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script), str(folder)],
                          cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.skipif(os.name != "posix", reason="RLIMIT_FSIZE")
@pytest.mark.parametrize("on_full", ["drop", "block"])
def test_file_size_limit(tmp_path, on_full):
    """Files may not grow: no half line, no damaged database, the chosen answer, and all is well afterwards."""
    in_subprocess(f"""
        log = open_log(folder, Events(jsonl=folder / "events.jsonl", on_full={on_full!r}))
        log.emit(lifecycle_event("first"))
        wait_for(lambda: list(read(folder)))
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
        for n in range(400):
            log.emit(lifecycle_event("many", "x" * 1000))
        wait_for(lambda: all(outlet.error for outlet in log._outlets))
        assert log.healthy is ({on_full!r} == "drop")
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        time.sleep(0.1)
        log.emit(lifecycle_event("last"))
        wait_for(lambda: log.healthy and not any(outlet.error for outlet in log._outlets))
        log.close()
    """, tmp_path)
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    for recorded in (read(tmp_path), map(json.loads, lines)):
        what = [each["lockgate"]["event"] for each in recorded]
        assert (what[0], what[-1]) == ("first", "last")
        assert (what.count("many") == 400) is (on_full == "block")
        assert ("events lost" in what) is (on_full == "drop")


@pytest.mark.live
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to mount a tmpfs")
def test_full_disk(tmp_path):
    """A tmpfs of 256 KiB in a mount namespace of its own."""
    in_subprocess("""
        import subprocess
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=True)
        log = open_log(folder, Events(jsonl=folder / "events.jsonl", on_full="block"))
        for n in range(400):
            log.emit(lifecycle_event("many", "x" * 1000))
        wait_for(lambda: not log.healthy)
        subprocess.run(["mount", "-o", "remount,size=16m", str(folder)], check=True)
        wait_for(lambda: log.healthy)
        log.close()
        assert len(list(read(folder))) == 400
    """, tmp_path, "unshare", "--mount", "--propagation", "private")


def test_the_policy_names_the_sinks(tmp_path):
    log = open_log(tmp_path, Events(sqlite=Sqlite(max_mb=1), jsonl=tmp_path / "a.jsonl"), stdout=True)
    assert [type(outlet.sink) for outlet in log._outlets] == [Database, JsonLines, StandardOutput]
    log.close()
