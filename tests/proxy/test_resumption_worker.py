"""Resumption through a whole worker: on both sides, for the same process, and not beyond a reload."""

import ssl

import pytest

from tests.proxy.conftest import GET, read_answer, running

POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
"""


@pytest.fixture
def proxy(folder, origin):
    with running(folder / "resuming", POLICY.format(roots=origin.roots)) as started:
        yield started


def ask(proxy, origin, context, session=None):
    """Whether the client's session was resumed, and the one that it has afterwards."""
    with context.wrap_socket(proxy.tunnel(origin), server_hostname="origin.test", session=session) as sock:
        sock.sendall(GET)
        assert read_answer(sock).status == 200
        return sock.session_reused, sock.session


def test_both_sides_until_a_reload(proxy, origin):
    context = ssl.create_default_context(cafile=str(proxy.ca))
    reused, session = ask(proxy, origin, context)
    assert not reused
    reused, session = ask(proxy, origin, context, session)
    assert reused
    proxy.reload(POLICY.format(roots=origin.roots) + "limits: {hello: 9}\n")
    reused, session = ask(proxy, origin, context, session)
    assert not reused
    met = [event["tls"]["upstream"] for event in proxy.events() if "http" in event]
    assert [each.get("resumed", False) for each in met] == [False, True, False]
    assert {each["version"] for each in met} == {"TLSv1.3"}
