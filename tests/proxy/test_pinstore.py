"""The file of pins: what damages it, who changes it at the same time, and whose it is."""

import fcntl
import json
import os
import threading
import time

import pytest
import yaml

from addons.connection import Connection, Process
from proxy import pinstore
from proxy.pins import Pins
from proxy.pinstore import MAX_FILE, Busy, Full, Pin, Store

APP, HOST = "/opt/bank/app", "api.bank.test"
GOOD = {"app": APP, "host": HOST, "cause": "x", "learned": True, "since": 1000.0, "until": 1060.0}


@pytest.mark.parametrize("text", [
    pytest.param("", id="empty"),
    pytest.param("\0" * 100, id="zeros"),
    pytest.param("[" * 100_000, id="deep"),
    pytest.param("{}x", id="no JSON"),
    pytest.param("7", id="no list"),
    pytest.param("[7]", id="no mapping"),
    pytest.param('[{"app": "/a"}]', id="half"),
    pytest.param(yaml.dump([GOOD | {"app": "relative"}], default_flow_style=True), id="not JSON but YAML"),
    *(pytest.param(json.dumps([GOOD | {name: value}]), id=f"{name} is {value!r}") for name, value in [
        ("app", "relative"), ("app", 7), ("host", "*"), ("host", ""), ("host", None), ("cause", 7), ("learned", "yes"),
        ("since", "now"), ("until", float("inf")), ("until", float("nan")), ("until", 1000.0 + 91 * 86400), ("more", 1)]),
    pytest.param(json.dumps([GOOD]) + " " * MAX_FILE, id="too long"),
])
def test_damaged(tmp_path, caplog, text):
    store = Store(tmp_path, lambda: 1010.0)
    (tmp_path / "pins").mkdir()
    (tmp_path / "pins/pins.json").write_text(text)
    assert store.read() == {}
    assert "nothing that it said holds" in caplog.text
    assert (tmp_path / "pins/pins.json.damaged").read_text() == text
    store.put(Pin(**GOOD), limit=0)
    assert [pin.host for pin in store.read().values()] == [HOST]


def test_good(tmp_path):
    (tmp_path / "pins").mkdir()
    (tmp_path / "pins/pins.json").write_text(json.dumps([GOOD]))
    assert list(Store(tmp_path, lambda: 1010.0).read().values()) == [Pin(**GOOD)]


@pytest.mark.parametrize(("now", "there"), [(999.0, True), (1000.0, True), (1059.0, True), (1060.0, False), (900.0, False)])
def test_a_pin_has_its_time(tmp_path, now, there):
    """Small steps of the clock do no harm; one far back does not make it last longer."""
    (tmp_path / "pins").mkdir()
    (tmp_path / "pins/pins.json").write_text(json.dumps([GOOD]))
    assert bool(Store(tmp_path, lambda: now).read()) == there


@pytest.mark.parametrize("kind", [
    pytest.param(lambda path: path.mkdir(), id="a folder"),
    pytest.param(os.mkfifo, id="a pipe"),
    pytest.param(lambda path: path.symlink_to("../elsewhere"), id="a link"),
])
def test_no_file(tmp_path, kind, caplog):
    (tmp_path / "pins").mkdir()
    (tmp_path / "elsewhere").write_text(json.dumps([GOOD | {"since": time.time(), "until": time.time() + 60}]))
    kind(tmp_path / "pins/pins.json")
    assert Pins(tmp_path).find(Connection(HOST, ("192.0.2.1", 443), ("127.0.0.1", 1), Process(1, APP))) is None
    assert caplog.text


def test_changes_by_many_at_once_are_all_kept(tmp_path):
    now = time.time()

    def add(number):
        for each in range(10):
            Store(tmp_path).put(Pin(APP, f"{each}.{number}.test", "x", True, now, now + 60), limit=10)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Store(tmp_path).read()) == 40


def test_a_writer_that_was_killed(tmp_path):
    """What it left is in nobody's way, nor is its lock."""
    store, now = Store(tmp_path), time.time()
    store.put(Pin(APP, HOST, "x", True, now, now + 60), limit=0)
    (tmp_path / "pins/.pins.json.part").write_text("half")
    store.put(Pin(APP, "www.bank.test", "x", True, now, now + 60), limit=0)
    assert len(store.read()) == 2
    assert sorted(path.name for path in (tmp_path / "pins").iterdir()) == ["pins.json"]


def test_busy_and_full(tmp_path, monkeypatch):
    store, now = Store(tmp_path), time.time()
    monkeypatch.setattr(pinstore, "MAX_PINS", 0)
    with pytest.raises(Full):
        store.put(Pin(APP, HOST, "x", True, now, now + 60), limit=0)
    folder = os.open(tmp_path / "pins", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    began = time.monotonic()
    with pytest.raises(Busy):
        store.put(Pin(APP, HOST, "x", True, now, now + 60), limit=0)
    assert time.monotonic() - began < 1
    os.close(folder)
