"""What a worker says of its connections, and how little of it must be believed: real Unix sockets, hostile answers."""

import asyncio
import contextlib
import os
import socket
import time
from types import SimpleNamespace

import pytest

from addons.connection import Connection, Process
from addons.verdict import Action
from proxy import sessions
from proxy.chain import Decision
from proxy.dialled import Ends, ends
from proxy.session import Session
from proxy.sessions import Desk, Sessions
from proxy.workers import MAX_LINES, Workers, known
from tests.proxy.answering import END, HEAD, ROW, Answering, line

DIALLED = b'{"dialled":[["192.0.2.1",6000],["192.0.2.9",443],1.5]}\n'


@pytest.fixture
def answering(tmp_path):
    made = []

    def make(answer, **more):
        made.append(Answering(tmp_path, answer, **more))
        return Workers(tmp_path), made[-1]

    yield make
    for each in made:
        each.close()


def test_what_is_said_is_read(answering):
    workers, worker = answering(HEAD + line() + DIALLED + END)
    (found,), own = workers.ask()
    assert (found.client, found.server, found.local) == (("192.0.2.1", 5000), ("192.0.2.9", 443), ("127.0.0.1", 8080))
    assert (found.host, found.verdict, found.labels, found.pid, found.exe) == (
        "a.example", "inspect", ("ads",), 7, "/usr/bin/curl")
    assert own == [((("192.0.2.1", 6000), ("192.0.2.9", 443)), 1.5)]
    assert [(each.pid, each.listen) for each in workers.running] == [(os.getpid(), {("127.0.0.1", 8080)})]
    workers.ask()
    assert worker.asked == [{"ended": 0, "dialled": 0}, {"ended": 3, "dialled": 4}]
    assert workers.complaints == []


@pytest.mark.parametrize("answer", [
    pytest.param(b"", id="nothing"),
    pytest.param(HEAD + line(), id="no end"),
    pytest.param(b"[]\n" + END, id="no object"),
    pytest.param(b"{}\n" + END, id="no head"),
    pytest.param(b"\xff\xfe\n" + END, id="no text"),
    pytest.param(b"[" * 4000 + b"\n" + END, id="deep"),
    pytest.param(HEAD + b"x" * 5000 + b"\n" + END, id="a long line"),
    pytest.param(HEAD + b"x" * 9000, id="a line without an end"),
    pytest.param(HEAD + DIALLED * (MAX_LINES + 1) + END, id="many lines"),
    pytest.param(HEAD + b'{"dialled":5}\n' + END, id="no ends"),
    *(pytest.param(HEAD + line(**{name: value}) + END, id=f"{name} {str(value)[:10]}") for name, value in {
        "id": "x", "client": ["nobody", 1], "server": 5, "local": ["127.0.0.1", 70000], "host": 5, "tls": 1,
        "verdict": "fine", "started": -1, "ended": "now", "labels": "ads", "process": [1]}.items()),
    pytest.param(HEAD + line(host="a" * 300) + END, id="a long host"),
    pytest.param(HEAD + line(process={"pid": 1, "exe": "a" * 900}) + END, id="a long path"),
    pytest.param(HEAD + line(started=1e300) + END, id="a far time"),
])
def test_nonsense_is_a_complaint_and_nothing_more(answering, answer):
    workers, _ = answering(answer)
    assert workers.ask()[0] == []
    assert len(workers.complaints) == 1


@pytest.mark.parametrize("how", [{"stay": True}, {"drip": line()}], ids=["says nothing more", "never ends"])
def test_a_worker_that_does_not_end_costs_five_seconds(answering, how):
    workers, _ = answering(HEAD, **how)
    began = time.monotonic()
    workers.ask()
    assert workers.complaints
    assert time.monotonic() - began < 8


def test_what_a_terminal_would_obey_is_taken_out():
    found = known(ROW | {"host": "a\x1b]0;x\x07", "labels": ["\x9b2J"], "process": {"exe": "/\u202egnp.exe", "user": "\n"}})
    assert (found.host, found.labels, found.exe, found.user) == ("a�]0;x�", ("�2J",), "/�gnp.exe", "�")


def test_only_the_folders_owner_is_believed(answering, tmp_path):
    workers, worker = answering(HEAD + END)
    if os.geteuid() != 0:
        pytest.skip("needs root to give the folder away")
    os.chown(tmp_path, 65534, 65534)
    workers.ask()
    assert "not of the user" in workers.complaints[0]
    assert worker.asked == []       # nothing is sent to a stranger
    os.chown(tmp_path, 0, 0)


def test_nobody_there_is_no_complaint(tmp_path):
    workers = Workers(tmp_path)
    assert (workers.ask(), workers.complaints) == (([], []), [])
    with socket.socket(socket.AF_UNIX) as sock, sessions.reached(tmp_path) as name:
        sock.bind(f"{name}/connections-9.sock")
    assert (workers.ask(), workers.complaints, workers.running) == (([], []), [], [])


# -- the worker's side

def session(number, host="www.example", refused=None):
    connection = Connection(host, ("192.0.2.9", 443), ("192.0.2.1", number), Process(7, "/usr/bin/curl", user="me"))
    return Session(connection, lambda: None, None, flow_id=number, refused=refused)


def serve(tmp_path, fill, after=lambda _: None):
    """Fill a table, open its desk, and ask twice from a thread."""
    table, answers = Sessions(), []

    async def run():
        with socket.create_server(("127.0.0.1", 0)) as client:
            fill(table, client)
            desk = Desk(table, tmp_path, lambda: [client.getsockname()])
            await desk.open()
            workers = Workers(tmp_path)
            answers.append(await asyncio.to_thread(workers.ask))
            after(table)
            answers.append(await asyncio.to_thread(workers.ask))
            assert workers.complaints == []
            assert (tmp_path / f"connections-{os.getpid()}.sock").stat().st_mode & 0o777 == 0o600
            desk.close()

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []
    return answers


def test_a_worker_tells_what_is_open_and_each_end_once(tmp_path):
    made = [session(number) for number in (5001, 5002)]

    def fill(table, client):
        for each in made:
            table.begin(each, client)
        table.of(5001).note("bypass")
        table.end(made[1])

    (first, _), (second, _) = serve(tmp_path, fill, lambda table: table.end(made[0]))
    assert [(each.id, each.ended is None, each.verdict, each.host, each.pid) for each in first] == [
        (5002, False, "", "www.example", 7), (5001, True, "bypass", "www.example", 7)]
    assert [(each.id, each.ended is None) for each in second] == [(5001, False)]


def test_ten_thousand_are_told_of(tmp_path):
    def fill(table, client):
        for number in range(1, 10_001):
            table.begin(session(number), client)

    (first, _), _ = serve(tmp_path, fill)
    assert len(first) == 10_000


@pytest.mark.parametrize(("said", "refused", "shown"), [
    ([], None, ""),
    (["pass"], None, "inspect"),
    (["allow", "alert", "pass"], None, "alert"),
    (["pass", "block", "pass"], None, "block"),
    (["bypass"], None, "bypass"),
    ([], Decision(Action.BLOCK, "x", "y"), "block"),
    ([], Decision(Action.KILL, "x", "y"), "kill"),
    (["alert"], Decision(Action.BLOCK, "x", "y"), "block"),
])
def test_the_verdict_that_says_most_is_shown(said, refused, shown):
    table, each = Sessions(), session(1, refused=refused)
    table.begin(each, SimpleNamespace(getsockname=lambda: ("127.0.0.1", 1)))
    for verdict in said:
        table.of(1).note(verdict)
    assert table.of(1).row()["verdict"] == shown


def test_sockets_of_workers_that_were_killed_are_swept(tmp_path):
    for name in (f"connections-{2**22 + 1}.sock", "connections-x.sock"):
        (tmp_path / name).touch()
    serve(tmp_path, lambda table, client: None)


def test_a_long_folder_is_no_obstacle(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    serve(folder, lambda table, client: None)


@pytest.mark.parametrize("question", [b"", b"\n", b"{}\n", b"[1]\n", b'{"ended":"x","dialled":null}\n', b"x" * 100_000])
def test_a_bad_question_is_no_harm(tmp_path, question):
    async def run():
        desk = Desk(Sessions(), tmp_path, list)
        await desk.open()
        with sessions.reached(tmp_path) as name:
            reader, writer = await asyncio.open_unix_connection(f"{name}/connections-{os.getpid()}.sock")
        writer.write(question)
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        desk.close()

    asyncio.run(run())


def test_the_socket_is_removed_in_silence(tmp_path, caplog):
    async def run():
        desk = Desk(Sessions(), tmp_path, list)
        await desk.open()
        with (tmp_path / "another").open("wb"):     # has the number of a descriptor that led to the folder
            desk.close()

    asyncio.run(run())
    assert not caplog.records
    assert [each.name for each in tmp_path.iterdir()] == ["another"]


def test_own_ends_are_counted_and_bounded():
    found = Ends()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        here = sock.getsockname()
        for port in (4, 5):
            found.note(sock, ("192.0.2.1", port))
    assert [each[:2] for each in found.since(0)] == [(here, ("192.0.2.1", 4)), (here, ("192.0.2.1", 5))]
    assert [each[1] for each in found.since(1)] == [("192.0.2.1", 5)]
    assert (found.since(2), found.since(9)) == ([], [])
    assert ends.since(ends.count) == []
