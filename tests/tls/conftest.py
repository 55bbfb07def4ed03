"""The misbehaving peer, and a worker in front of it."""

import pytest

from certs.authority import Authority
from tests.proxy.conftest import folder
from tests.tls.peer import Peer

__all__ = ["folder"]


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("origins") / "ca")


@pytest.fixture(scope="module")
def peer(authority):
    with Peer(authority.issue(["origin.test", "127.0.0.1"]), authority.pem_path).serve() as served:
        yield served
