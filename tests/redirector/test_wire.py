"""Every message survives the channel in pieces of any size, and nothing else does."""
import json

import pytest

from redirector.plan import MAX_PORTS, MAX_SCOPE, Plan, Scope
from redirector.wire import (
    MAX_ANCESTRY,
    MAX_CGROUP,
    MAX_CMDLINE,
    MAX_EXE,
    MAX_LINE,
    MAX_NAME,
    MAX_PARENTS,
    MAX_REASON,
    MAX_USER,
    NAMESPACES,
    Decoder,
    Failed,
    Heartbeat,
    Lookup,
    Owner,
    Parent,
    Process,
    ProtocolError,
    Ready,
    Start,
    Stop,
    encode,
)

PLAN = Plan(ports=(80, 443), listen_port=8080, exempt_uid=997, scope=Scope(cgroup="/lock gate/ü"), existing="cut")
PROCESS = Process(1000, "ann", 4242, "/usr/bin/curl", ("curl", "-d", '"\\\n'),
                  (Parent(4000, "/bin/sh"), Parent(1)), 1e9, "/user.slice", name="curl", service="session-3.scope")
LONGEST = Process(
    2**32 - 1, '"' * MAX_USER, 2**31, '"' * MAX_EXE, ("",) * MAX_CMDLINE,
    (Parent(2**31, '"' * (MAX_ANCESTRY - 15)), *[Parent(2**31, '"')] * (MAX_PARENTS - 1)), 1e9 / 3, '"' * MAX_CGROUP,
    name='"' * MAX_NAME, service='"' * MAX_CGROUP, container='"' * MAX_CGROUP, namespaces=NAMESPACES)
MESSAGES = [
    Start("default", "/run/lockgate", PLAN), Start("default", "/run/lockgate", None),
    Ready("nftables", 17, cut=True), Failed("no nft:\napt install nftables"),
    Heartbeat(), Stop(), Lookup(0, ("10.0.0.1", 40000), ("2001:db8::1", 443)), Owner(2**53, PROCESS), Owner(1, None),
    Owner(2, LONGEST), Failed('"' * MAX_REASON),
    Start("x" * 32, "/" + "r" * (MAX_EXE - 1),
          Plan(tuple(range(65535, 65535 - MAX_PORTS, -1)), 1, 0, Scope(cgroup="/" + "c" * (MAX_SCOPE - 1)))),
]


@pytest.mark.parametrize("size", [1, 7, MAX_LINE])
def test_messages_arrive_in_pieces_of_any_size(size):
    data = b"".join(map(encode, MESSAGES))
    decoder = Decoder()
    assert [m for i in range(0, len(data), size) for m in decoder.feed(data[i:i + size])] == MESSAGES


def line(message=MESSAGES[0], **changes):
    return json.dumps({**json.loads(encode(message)), **changes}).encode() + b"\n"


def plan(**changes):
    return line(plan={**json.loads(encode(MESSAGES[0]))["plan"], **changes})


LOOKUP, OWNER = MESSAGES[6], MESSAGES[7]


@pytest.mark.parametrize("data", [
    pytest.param(b"\n", id="empty line"),
    pytest.param(b"GET / HTTP/1.1\r\n", id="another protocol"),
    pytest.param(b"\xff\xfe\n", id="not UTF-8"),
    pytest.param('{"type":"stop"}\n'.encode("utf-16"), id="UTF-16"),
    pytest.param(b"[" * 4000 + b"\n", id="nested too deep"),
    pytest.param(b"1" * 4095 + b"\n", id="a number"),
    pytest.param(b'["stop"]\n', id="a list"),
    pytest.param(b'{"type":"stop","type":"stop"}\n', id="a key twice"),
    pytest.param(b'{"type":"stop","now":true}\n', id="unknown key"),
    pytest.param(b'{"type":"reboot"}\n', id="unknown type"),
    pytest.param(b'{"type":["stop"]}\n', id="type of a wrong type"),
    pytest.param(b'{"version":1}\n', id="no type"),
    pytest.param(b'{"type":"start","version":1}\n', id="keys missing"),
    pytest.param(line(version=2), id="version of the future"),
    pytest.param(line(instance="../x"), id="instance: a path"),
    pytest.param(line(instance="x; flush ruleset"), id="instance: nft syntax"),
    pytest.param(line(instance="x\n"), id="instance: a trailing newline"),
    pytest.param(line(instance=""), id="instance: empty"),
    pytest.param(line(run_dir="run"), id="run_dir: relative"),
    pytest.param(line(run_dir="/run/../etc"), id="run_dir: upwards"),
    pytest.param(line(run_dir="/run/\0"), id="run_dir: NUL"),
    pytest.param(line(run_dir="/run/\ud800"), id="run_dir: half a character"),
    pytest.param(line(plan=[]), id="plan: a list"),
    pytest.param(plan(ports="443"), id="ports: a text"),
    pytest.param(plan(ports=[True]), id="ports: a boolean"),
    pytest.param(plan(listen_port=8080.0), id="listen_port: a float"),
    pytest.param(plan(scope={"gid": 1}), id="scope: unknown key"),
    pytest.param(plan(scope=None), id="scope: none"),
    pytest.param(plan(scope={"uid": None, "cgroup": '/a" accept #'}), id="scope: nft syntax"),
    pytest.param(line(LOOKUP, id=-1), id="id: negative"),
    pytest.param(line(LOOKUP, client=["10.0.0.1"]), id="client: no port"),
    pytest.param(line(LOOKUP, client=["example.com", 1]), id="client: a name"),
    pytest.param(line(LOOKUP, server=["10.0.0.1", 65536]), id="server: port too large"),
    pytest.param(line(OWNER, process={}), id="process: empty"),
    pytest.param(line(OWNER, process={"uid": 0, "user": "x" * 65}), id="user too long"),
    pytest.param(line(OWNER, process={"uid": 0, "user": "x", "cmdline": [1]}), id="cmdline of numbers"),
    pytest.param(line(OWNER, process={"uid": 0, "user": "x", "started": float("nan")}), id="started: NaN"),
    pytest.param(line(OWNER, process={"uid": 0, "user": "x", "parents": [1]}), id="parents of numbers"),
    pytest.param(line(OWNER, process={"uid": 0, "user": "x", "parents": [[1, 2]]}), id="parents without programs"),
    pytest.param(line(OWNER, process={"uid": 0, "user": "x", "parents": [[1, "a", "b"]]}), id="parents with more"),
    pytest.param(line(OWNER, process={"uid": 0, "user": "x", "parents": [[1, "x" * MAX_ANCESTRY], [2, "x"]]}),
                 id="parents too long"),
    pytest.param(line(OWNER, process={"uid": 0, "user": "x", "parents": [[1, ""]] * (MAX_PARENTS + 1)}),
                 id="too many parents"),
    pytest.param(line(OWNER, process={"uid": 0, "user": "x", "namespaces": ["uts"]}), id="namespaces: unknown"),
    pytest.param(line(MESSAGES[1], existing=-1), id="existing: negative"),
    pytest.param(line(MESSAGES[2], reason=None), id="no reason"),
])
def test_what_is_not_a_message(data):
    with pytest.raises(ProtocolError):
        Decoder().feed(data)


@pytest.mark.parametrize("data", [
    pytest.param(b"x" * MAX_LINE, id="without an end"),
    pytest.param(b'{"type":"stop"}' + b" " * MAX_LINE + b"\n", id="with an end"),
])
@pytest.mark.parametrize("size", [1000, 2 * MAX_LINE])
def test_no_line_grows_beyond_its_limit(data, size):
    decoder = Decoder()
    with pytest.raises(ProtocolError, match=f"more than {MAX_LINE}"):
        [decoder.feed(data[i:i + size]) for i in range(0, len(data), size)]


def test_a_message_too_long_for_a_line_is_refused_by_the_sender():
    with pytest.raises(ValueError, match="more than a line"):
        encode(Owner(1, Process(0, "", exe="\x01" * MAX_EXE, parents=(Parent(1, "\x01" * MAX_ANCESTRY),))))
