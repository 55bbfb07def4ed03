"""Whose packet of no known flow it is, asked of the kernel about real sockets; needs no root."""
import os
import socket
import sys
from contextlib import ExitStack
from dataclasses import replace

import pytest

from redirector.deciding import Decider, older
from redirector.flows import Action, Ends
from redirector.plan import Plan, Scope
from redirector.sockets import connections

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")
NOBODY, ME = 65534, os.getuid()
PASS, REFLECT, REFUSE, DROP = Action.PASS, Action.REFLECT, Action.REFUSE, Action.DROP


@pytest.fixture(params=["127.0.0.1", "::1"])
def connection(request):
    """Both ends of a connection over loopback, as its client sees them."""
    with ExitStack() as stack:
        family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
        server = stack.enter_context(socket.create_server((request.param, 0), family=family))
        client = stack.enter_context(socket.create_connection(server.getsockname()[:2]))
        yield client.getsockname()[:2], client.getpeername()[:2]


def plan(server, **more):
    """Captures connections to this server."""
    given = {"exempt_uid": NOBODY, "loopback": True, "backend": "divert", "exempt_ports": (61440, 65535), **more}
    return Plan(ports=(server[1],), listen_port=1, **given)


@pytest.mark.parametrize(("changes", "syn", "guard", "expected"), [
    pytest.param({}, True, False, REFLECT, id="a new connection is diverted"),
    pytest.param({}, True, True, REFUSE, id="by the guard, refused"),
    pytest.param({}, False, False, REFUSE, id="the middle of one that we never saw begin"),
    pytest.param({"exempt_uid": ME}, True, False, PASS, id="the proxy's"),
    pytest.param({"exempt_uid": ME}, True, True, PASS, id="the proxy's, by the guard"),
    pytest.param({"exempt_uid": ME}, False, False, PASS, id="the middle of one of the proxy's"),
    pytest.param({"scope": Scope(uid=ME)}, True, False, REFLECT, id="of the user in scope"),
    pytest.param({"scope": Scope(uid=NOBODY - 1)}, True, False, PASS, id="of another user"),
    pytest.param({"exempt_ports": (1024, 65535)}, True, False, REFUSE, id="from one of the proxy's ports, borrowed"),
    pytest.param({"exempt_ports": (1024, 65535), "exempt_uid": ME}, True, False, PASS, id="from one, the proxy's"),
    pytest.param({"loopback": False}, True, False, PASS, id="what is not captured"),
])
def test_tcp(connection, changes, syn, guard, expected):
    client, server = connection
    if "exempt_ports" in changes:
        changes = {**changes, "exempt_ports": (client[1], client[1])}
    assert Decider(plan(server, **changes), [], guard=guard).tcp(Ends(client, server, syn)) is expected


def test_a_socket_that_has_gone_sends_no_more(connection):
    client, server = connection
    assert Decider(plan(server), [], guard=False).tcp(Ends((client[0], 9), server, False)) is DROP


def test_older_ones_go_on_but_their_ports_are_not_free(connection):
    client, server = connection
    known = older([each for each in connections() if each.client == client and each.server == server])
    assert known == {(client, server)}
    decider = Decider(plan(server), known, guard=False)
    assert decider.tcp(Ends(client, server, False)) is PASS
    assert decider.tcp(Ends(client, server, True)) is REFLECT


@pytest.mark.parametrize(("scope", "expected"), [
    pytest.param(Scope(), REFUSE, id="everything"),
    pytest.param(Scope(uid=ME), REFUSE, id="the user in scope"),
    pytest.param(Scope(uid=NOBODY - 1), PASS, id="another user"),
])
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "sendto"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_udp(scope, expected, connected, host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.bind((host, 0))
        if connected:
            sender.connect((host, 443))
        decider = Decider(replace(plan((host, 443)), scope=scope), [], guard=False)
        assert decider.udp(Ends(sender.getsockname()[:2], (host, 443), False)) is expected
