"""Origins as the policy has them, by a real worker: an exception is for its host alone, and told."""

import ssl
from dataclasses import dataclass

from tests.proxy import handshake
from tests.proxy.conftest import GET, running
from tests.proxy.handshake import Pair
from tests.proxy.origin import Origin

POLICY = """\
version: 1
tls:
  upstream:
    trusted_ca: {roots}
    exceptions: [{{hosts: [origin.test], accept: [expired]}}]
"""


@dataclass
class Site(Origin):
    """With a certificate of the test's."""

    pair: Pair | None = None

    def _context(self) -> ssl.SSLContext:
        assert self.pair is not None
        (file := self.folder / "pair.pem").write_bytes(self.pair.pem + self.pair.key_pem)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        return context


def test_an_exception_is_for_its_host_and_recorded(tmp_path):
    root = handshake.authority("root")
    (roots := tmp_path / "roots.pem").write_bytes(root.pem)
    old = handshake.origin(root, ["origin.test", "other.test"], valid=(-9, -1))
    with Site(tmp_path, pair=old).serve() as site, running(tmp_path / "worker", POLICY.format(roots=roots)) as proxy:
        assert proxy.ask(site, GET).body == b"ok"
        assert proxy.ask(site, GET.replace(b"origin", b"other"), host="other.test").status == 502
        told = [event["lockgate"] for event in proxy.events() if event["lockgate"].get("filter") == "tls.exceptions"]
    assert [(each["verdict"], each["reason"].partition(":")[0]) for each in told] == [("alert", "tolerated (expired)")]
