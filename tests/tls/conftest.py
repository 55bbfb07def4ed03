"""The misbehaving peer, a worker in front of it, and a client of our own before that."""

import pytest

from certs.authority import Authority
from tests.proxy.conftest import folder, running
from tests.tls.client import Client
from tests.tls.peer import Peer
from tests.tls.server import Manner

__all__ = ["folder"]

POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
limits: {{answer: 2, hello: 1}}
"""


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("origins") / "ca")


@pytest.fixture(scope="module")
def peer(authority):
    with Peer(authority.issue(["origin.test", "127.0.0.1"]), authority.pem_path).serve() as served:
        yield served


@pytest.fixture(scope="module")
def proxy(folder, peer):
    with running(folder / "worker", POLICY.format(roots=peer.roots)) as started:
        yield started


@pytest.fixture
def client(proxy, peer):
    """In a tunnel to the peer, which has good manners."""
    peer.behave(Manner())
    with proxy.tunnel(peer.port) as sock:
        yield Client(sock)
