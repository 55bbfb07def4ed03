"""What is decided of a connection, and for which of the addresses that it may lead to."""

import pytest

from addons.connection import Connection
from proxy.chain import Chain
from proxy.gate import judge
from proxy.registry import load_all
from proxy.session import Rules, Session

LABELS = """
class Trusts:
    def connection(self, conn):
        if conn.address[0] == "192.0.2.1": conn.labels.add("trusted")
"""


@pytest.mark.parametrize(("addresses", "verdict", "routes", "labels"), [
    pytest.param(["192.0.2.1"], "bypass", ["192.0.2.1"], {"trusted"}, id="the one"),
    pytest.param(["192.0.2.2"], "inspect", ["192.0.2.2"], set(), id="another"),
    pytest.param(["192.0.2.1", "192.0.2.2"], "bypass", ["192.0.2.1"], {"trusted"}, id="the one, then another"),
    pytest.param(["192.0.2.2", "192.0.2.1"], "inspect", ["192.0.2.2"], set(), id="another, then the one"),
])
def test_what_is_found_out_about_one_address_is_not_said_of_another(tmp_path, addresses, verdict, routes, labels):
    (tmp_path / "mine.py").write_text(LABELS)
    (tmp_path / "policy.yaml").write_text(
        "version: 1\ntls: {bypass: ['label:trusted']}\nfilters: [{id: trusts, use: ./mine.py:Trusts}]\n")
    policy, loaded = load_all(tmp_path / "policy.yaml")
    rules = Rules(policy, Chain(loaded))
    connection = Connection("a.test", ("192.0.2.1", 443), ("127.0.0.1", 1))
    found, _, where = judge(Session(connection, lambda: rules, None), connection, [(each, 443) for each in addresses])
    assert (found, [address for address, _ in where], connection.labels) == (verdict, routes, labels)
