"""`lockgate connections` where clients know the proxy: on this computer, and on another."""

import json

import pytest

from tests.live.lab import CLIENT, ORIGIN, running
from tests.waiting import wait_for

pytestmark = pytest.mark.live
PROXY = f"http://{CLIENT}:8080"


@pytest.fixture(scope="module")
def started(lab, tmp_path_factory):
    (lab.folder / "www/slow").write_bytes(bytes(60_000_000))
    state = tmp_path_factory.mktemp("explicit") / "state"
    with lab.start("--capture", "explicit", "--listen", f"{CLIENT}:8080", "--allow-anyone", state=state, policy=lab.policy()) as started:
        yield started


@pytest.mark.parametrize("elsewhere", [False, True], ids=["a client here", "a client on another computer"])
@pytest.mark.parametrize("url", ["https://origin.test/slow", "http://origin.test/slow"])
def test_a_client_of_the_proxy_shows_once_with_where_it_goes(lab, started, url, elsewhere):
    command = ["curl", "-sk", "-x", PROXY, "--limit-rate", "100k", "-o", "/dev/null", url]
    place = ["nsenter", f"--net=/run/netns/{lab.origin}", *command] if elsewhere else lab.inside(*command)

    def shown(*words):
        done = lab.call(*lab.lockgate("connections", "--state", started.state, "--json", *words))
        assert done.returncode == 0, done.stderr
        return [row for row in map(json.loads, done.stdout.splitlines()) if row["host"] == "origin.test"]

    with running(place) as client:
        rows = wait_for(lambda: [row for row in shown() if (row["received"] or 0) > 100_000], 15)
        client.kill()
    row, = rows
    assert (row["captured"], row["verdict"], row["host_from"]) == (True, "inspect", "connection")
    assert row["local_ip"] == (ORIGIN if elsewhere else CLIENT)
    assert row["pid"] == (None if elsewhere else client.pid)
    if url.startswith("https"):
        assert (row["remote_ip"], row["remote_port"]) == (ORIGIN, 443)
    past = wait_for(lambda: [each for each in shown("--history") if each["local_port"] == row["local_port"] and each["ended"]], 15)
    assert len(past) == 1
    assert past[0]["received"] >= row["received"] - 1      # see _moved in redirector/tables.py
