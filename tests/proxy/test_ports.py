"""The ports of the proxy's own connections: which are picked, and that each connection has one."""
import asyncio
import contextlib
import socket
import sys

import pytest

from proxy import destination, ports
from proxy.ports import Ports, pick


@pytest.mark.skipif(sys.platform == "win32", reason="reads Linux's settings")
@pytest.mark.parametrize(("ephemeral", "reserved", "expected"), [
    pytest.param("32768\t60999", "", (61440, 65535), id="as Linux has it: above"),
    pytest.param("32768\t64000", "", (64001, 65535), id="not much above"),
    pytest.param("32768\t65535", "", (28672, 32767), id="nothing above: below"),
    pytest.param("1024\t65535", "61000-62023", (61000, 62023), id="what the administrator has reserved"),
    pytest.param("32768\t60999", "8080,9000-9100", (61440, 65535), id="reserved for others: too few"),
    pytest.param("1024\t65535", "", None, id="none"),
    pytest.param("1024\t65535", "8080", None, id="too few"),
])
def test_pick(tmp_path, ephemeral, reserved, expected):
    (tmp_path / "ip_local_port_range").write_text(f"{ephemeral}\n")
    (tmp_path / "ip_local_reserved_ports").write_text(f"{reserved}\n")
    if expected is None:
        with pytest.raises(ValueError, match="ip_local_reserved_ports"):
            pick(tmp_path)
    else:
        assert pick(tmp_path) == expected


@pytest.fixture
def own():
    """Three ports that nobody has."""
    first = next(first for first in range(61440, 65533, 3) if all(map(free, range(first, first + 3))))
    ports.use((first, first + 2))
    yield range(first, first + 3)
    ports.use(None)


def free(port):
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return True
    return False


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request):
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as listener:
        yield listener.getsockname()[:2]


def test_connections_come_from_them_in_turn(own, server):
    async def connect():
        return [await destination.dial([server]) for _ in own]

    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(sock).getsockname()[1] for sock in asyncio.run(connect())]
        assert sorted(found) == list(own)


def test_by_name_too(own, server):
    async def connect():
        _, writer = await destination.streams(*server)
        port = writer.get_extra_info("sockname")[1]
        writer.close()
        return port

    assert asyncio.run(connect()) in own


def test_a_port_serves_several_destinations(own):
    async def connect(addresses):
        return [await destination.dial([each]) for each in addresses for _ in own]

    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        found = asyncio.run(connect([server.getsockname() for server in servers]))
        assert sorted(stack.enter_context(sock).getsockname()[1] for sock in found) == sorted([*own, *own])


def test_who_finds_all_taken_waits_for_one(own, server):
    async def connect():
        held = [await destination.dial([server]) for _ in own]
        more = asyncio.create_task(destination.dial([server]))
        await asyncio.sleep(2 * ports.PAUSE)
        assert not more.done()
        held[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")     # no TIME_WAIT
        held.pop(0).close()
        held.append(await asyncio.wait_for(more, 10))
        return held

    for sock in asyncio.run(connect()):
        sock.close()


def test_an_origin_that_refuses_is_told_as_ever(own):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(destination.dial([address]))


def test_unless_told_any_port_will_do(server):
    assert ports.in_use() is None
    with asyncio.run(destination.dial([server])) as sock:
        assert sock.getsockname()[1]


def test_ports_start_somewhere():
    """Those of a worker that has just died are in TIME_WAIT."""
    assert len({Ports(1024, 65535)._next for _ in range(20)}) > 1
