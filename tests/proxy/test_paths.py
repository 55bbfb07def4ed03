"""Bundles of roots, good and damaged; and how far the search for paths goes."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from proxy import paths
from proxy.paths import Roots
from tests.proxy.handshake import authority, origin

ROOT, OTHER = authority("root"), authority("other")
MIDDLE = authority("middle", ROOT)


@pytest.mark.parametrize(("pem", "expected"), [
    pytest.param(ROOT.pem + OTHER.pem, [ROOT, OTHER], id="two"),
    pytest.param(b"# a comment\n\r\n" + ROOT.pem.replace(b"\n", b"\r\n"), [ROOT], id="words and CRLF"),
    pytest.param(ROOT.pem.replace(b"MII", b"AII", 1) + OTHER.pem, [OTHER], id="a damaged one is left out"),
    pytest.param(ROOT.key_pem + ROOT.pem, [ROOT], id="a key among them"),
])
def test_bundles(pem, expected):
    assert list(Roots(pem).certificates) == [each.certificate for each in expected]


def test_one_may_be_left_out(tmp_path):
    (tmp_path / "roots.pem").write_bytes(ROOT.pem + OTHER.pem)
    assert Roots.read(tmp_path / "roots.pem", without=ROOT.certificate).certificates == (OTHER.certificate,)


@pytest.mark.parametrize("content", [b"", b"no certificate", ROOT.key_pem])
def test_a_bundle_of_nothing_is_an_error(content, tmp_path):
    file = tmp_path / "roots.pem"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"roots\.pem: no certificate"):
        Roots.read(file)


def found(roots, *sent):
    return list(paths.paths([each.certificate for each in sent], Roots(b"".join(each.pem for each in roots))))


def certificates(*pairs):
    return tuple(each.certificate for each in pairs)


LEAF = origin(MIDDLE)
CROSSED = authority("root", OTHER, key=ROOT.key)


@pytest.mark.parametrize(("roots", "sent", "expected"), [
    pytest.param([ROOT], [LEAF, MIDDLE], [(LEAF, MIDDLE, ROOT)], id="one way"),
    pytest.param([ROOT], [LEAF, OTHER, MIDDLE], [(LEAF, MIDDLE, ROOT)], id="a stranger in between"),
    pytest.param([ROOT], [LEAF], [], id="its issuer is missing"),
    pytest.param([OTHER], [LEAF, MIDDLE, CROSSED], [(LEAF, MIDDLE, CROSSED, OTHER)], id="cross-signed"),
    pytest.param([OTHER, ROOT], [LEAF, MIDDLE, CROSSED], [(LEAF, MIDDLE, ROOT), (LEAF, MIDDLE, CROSSED, OTHER)],
                 id="two ways, the short one first"),
    pytest.param([MIDDLE], [LEAF], [(LEAF, MIDDLE)], id="a root that is none"),
    pytest.param([ROOT], [LEAF, MIDDLE, authority("middle", MIDDLE, key=MIDDLE.key)], [(LEAF, MIDDLE, ROOT)],
                 id="nobody twice"),
    pytest.param([ROOT], [LEAF, MIDDLE, CROSSED, authority("other", ROOT, key=OTHER.key)], [(LEAF, MIDDLE, ROOT)],
                 id="nor a root"),
])
def test_paths(roots, sent, expected):
    assert found(roots, *sent) == [certificates(*each) for each in expected]


KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(4)]
TOPS = [authority(f"top {i}", key=key) for i, key in enumerate(KEYS)]
WEB = [authority(f"top {i}", TOPS[j], key=KEYS[i]) for i in range(4) for j in range(4) if i != j]


@pytest.mark.parametrize(("limit", "ways"), [({}, 13), ({"MAX_PATHS": 3}, 3), ({"MAX_SIGNATURES": 9}, 3)])
def test_the_search_is_bounded(limit, ways, monkeypatch):
    """Authorities that have certified each other: more ways than anybody can walk."""
    for name, value in limit.items():
        monkeypatch.setattr(paths, name, value)
    assert len(found(TOPS, origin(TOPS[0]), *WEB)) == ways
