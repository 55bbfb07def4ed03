"""What nobody else may register, and the keys that everybody has; the rest in whole handshakes: test_upstream.py."""

import pytest

from proxy.weaknesses import KNOWN_BAD, is_public_suffix, spki
from tests.proxy.handshake import authority


@pytest.mark.parametrize(("host", "expected"), [
    ("com", True), ("co.uk", True), ("test", True), ("nobody-has-this", True), ("example.ck", True), ("xn--p1ai", True),
    ("example.com", False), ("github.io", False), ("s3.amazonaws.com", False), ("www.ck", False), ("a.test", False),
    ("", False),
])
def test_public_suffixes(host, expected):
    assert is_public_suffix(host) == expected


def test_known_bad_keys():
    assert all(len(digest) == 64 and int(digest, 16) for digest in KNOWN_BAD)
    assert spki(authority("root").certificate) not in KNOWN_BAD
