"""Which backend is chosen, and that the reason is said."""
import pytest

from redirector import backends
from redirector.divert import Divert
from redirector.nftables import Nftables
from redirector.plan import BackendError, Plan
from redirector.wire import Start

PLAN = {"ports": (443,), "listen_port": 8080, "exempt_uid": 997, "exempt_ports": (61440, 65535)}


@pytest.mark.parametrize(("name", "made"), [("nftables", Nftables), ("divert", Divert)])
def test_make(name, made):
    plan = Plan(**PLAN, backend=name)
    backend = backends.make(Start("t", "/run/x", plan), plan, "table", "/sys/fs/cgroup")
    assert (type(backend), backend.declaration.name) == (made, name)


def test_what_is_not_the_redirector_s_is_refused():
    plan = Plan(**PLAN, backend="hook")
    with pytest.raises(BackendError, match="hook"):
        backends.make(Start("t", "/run/x", plan), plan, "table", "/sys/fs/cgroup")


@pytest.mark.parametrize(("root", "nft", "pydivert", "chosen", "why"), [
    pytest.param(True, None, None, "nftables", "nftables is here", id="all"),
    pytest.param(True, "no nft", None, "divert", "no nft", id="no nft"),
    pytest.param(False, None, None, "explicit", "without root", id="no root"),
    pytest.param(True, "no nft", "no pydivert", None, "no nft; no pydivert", id="neither"),
])
def test_auto(monkeypatch, root, nft, pydivert, chosen, why):
    monkeypatch.setattr(backends, "_no_nft", lambda: nft)
    monkeypatch.setattr(backends.handles, "usable", lambda: pydivert)
    if chosen is None:
        with pytest.raises(BackendError, match=why):
            backends.choose("auto", root=root)
    else:
        assert backends.choose("auto", root=root)[0] == chosen
        assert why in backends.choose("auto", root=root)[1]


@pytest.mark.parametrize(("wanted", "root", "pydivert", "error"), [
    pytest.param("nftables", False, None, "needs root", id="nftables without root"),
    pytest.param("divert", False, None, "needs root", id="divert without root"),
    pytest.param("divert", True, "no pydivert", "no pydivert", id="divert without pydivert"),
])
def test_what_is_asked_for_and_cannot_be_is_refused(monkeypatch, wanted, root, pydivert, error):
    monkeypatch.setattr(backends.handles, "usable", lambda: pydivert)
    with pytest.raises(BackendError, match=error):
        backends.choose(wanted, root=root)


@pytest.mark.parametrize("wanted", ["nftables", "divert", "explicit"])
def test_what_is_asked_for_is_taken(monkeypatch, wanted):
    monkeypatch.setattr(backends.handles, "usable", lambda: None)
    assert backends.choose(wanted, root=True)[0] == wanted
