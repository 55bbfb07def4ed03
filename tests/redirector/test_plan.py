"""A plan that would capture the proxy, or that nft would misread, cannot be made."""
import pytest

from redirector.plan import MAX_PORTS, MAX_USERS, Declaration, Plan, Scope, beyond

GOOD = {"ports": (80, 443), "listen_port": 8080, "exempt_uid": 997}


@pytest.mark.parametrize("changes", [
    pytest.param({}, id="everything"),
    pytest.param({"exempt_uid": 0}, id="root is exempt"),
    pytest.param({"scope": Scope(uid=1000)}, id="one user"),
    pytest.param({"scope": Scope(uid=1000), "exempt_uid": None}, id="one user, nobody exempt"),
    pytest.param({"own_server": True, "exempt_uid": None}, id="a server in the proxy's place"),
    pytest.param({"families": (6,), "listen_host": "2001:db8::1"}, id="a server at one address"),
    pytest.param({"scope": Scope(cgroup="/user.slice/run-u1.scope"), "exempt_uid": None}, id="one control group"),
])
def test_good_plans(changes):
    Plan(**{**GOOD, **changes})


@pytest.mark.parametrize(("changes", "message"), [
    pytest.param({"ports": ()}, "ports", id="no ports"),
    pytest.param({"ports": [443]}, "ports", id="a list"),
    pytest.param({"ports": tuple(range(1, MAX_PORTS + 2))}, "ports", id="too many ports"),
    pytest.param({"ports": (0,)}, "ports", id="port 0"),
    pytest.param({"ports": ("443",)}, "ports", id="a port as text"),
    pytest.param({"listen_port": 443}, "a loop", id="the proxy's port is captured"),
    pytest.param({"listen_port": 65536}, "listen_port", id="port too large"),
    pytest.param({"exempt_uid": None}, "exempt_uid: needed", id="everything, nobody exempt"),
    pytest.param({"exempt_uid": -1}, "exempt_uid", id="uid negative"),
    pytest.param({"exempt_uid": True}, "exempt_uid", id="uid a boolean"),
    pytest.param({"scope": Scope(uid=997)}, "nothing would be captured", id="the captured user is exempt"),
    pytest.param({"quic": "drop"}, "quic: reject or allow", id="quic"),
    pytest.param({"fail": ["open"]}, "fail: open or closed", id="fail"),
    pytest.param({"existing": None}, "existing: report or cut", id="existing"),
    pytest.param({"own_server": 1}, "own_server: true or false", id="own_server"),
    pytest.param({"families": ()}, "families", id="no family"),
    pytest.param({"families": (4,), "listen_host": "::1"}, "listen_host", id="an address of the other family"),
    pytest.param({"listen_host": "127.0.0.1; drop"}, "does not appear", id="an address that is none"),
    pytest.param({"encrypted_dns": "drop"}, "encrypted_dns: allow or refuse", id="encrypted DNS"),
    pytest.param({"quic_users": (-1,)}, "quic_users", id="a user of QUIC"),
    pytest.param({"quic_users": tuple(range(MAX_USERS + 1))}, "quic_users", id="too many users of QUIC"),
    pytest.param({"lan": 1}, "lan: true or false", id="lan"),
    pytest.param({"forward": ("lo",)}, "forward: names", id="loopback is forwarded to nobody"),
    pytest.param({"forward": ('e0" drop; #',)}, "forward: names", id="an interface in nft's syntax"),
    pytest.param({"forward": ("e0\n",)}, "forward: names", id="an interface with a line's end"),
    pytest.param({"forward": ("*",)}, "forward: names", id="every interface"),
    pytest.param({"forward": "docker0"}, "forward: names", id="an interface that is no list"),
])
def test_bad_plans(changes, message):
    with pytest.raises(ValueError, match=message):
        Plan(**{**GOOD, **changes})


@pytest.mark.parametrize("fields", [
    {"uid": 2**32 - 1}, {"uid": "0"}, {"uid": 1, "cgroup": "/x"}, {"cgroup": "/"}, {"cgroup": ""}, {"cgroup": "x"},
    {"cgroup": "/x/"}, {"cgroup": "/x/../y"}, {"cgroup": "/./x"}, {"cgroup": '/x"'}, {"cgroup": "/x\n"},
    {"cgroup": "/x\\"}, {"cgroup": "/" + "x" * 1024}, {"cgroup": 7},
])
def test_bad_scopes(fields):
    with pytest.raises(ValueError, match="scope"):
        Scope(**fields)


@pytest.mark.parametrize(("changes", "lacking"), [
    pytest.param({}, ["fail: closed"], id="closed"),
    pytest.param({"fail": "open"}, ["fail: open"], id="open"),
    pytest.param({"scope": Scope(uid=7)}, ["one user's connections", "fail: closed"], id="a user"),
    pytest.param({"scope": Scope(cgroup="/a")}, ["one control group's connections", "fail: closed"], id="a group"),
    pytest.param({"lan": True}, ["loopback or LAN", "fail: closed"], id="LAN"),
    pytest.param({"existing": "cut"}, ["cutting older connections", "fail: closed"], id="cut"),
    pytest.param({"forward": ("docker0",)}, ["what is forwarded", "fail: closed"], id="forwarded"),
])
def test_what_a_backend_does_not_offer(changes, lacking):
    plan = Plan(ports=(443,), listen_port=8080, exempt_uid=99, **changes)
    assert beyond(plan, Declaration("hook", "none", ("Linux",))) == lacking
    everything = Declaration("hook", "none", ("Linux",), users=True, groups=True, local=True, forwarded=True,
                             existing=True, closed=True, open=True)
    assert beyond(plan, everything) == []
