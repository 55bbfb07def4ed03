"""How upstream proxies are named, and what is met without them."""

import pytest

from proxy.proxyurl import Exceptions, as_address, exception, place, proxy_url


@pytest.mark.parametrize(("url", "expected"), [
    ("http://Proxy.Corp.test:3128", ("http", "proxy.corp.test", 3128)),
    ("socks5://192.0.2.1:1080/", ("socks5", "192.0.2.1", 1080)),
    ("http://[2001:DB8::1]:8080", ("http", "2001:db8::1", 8080)),
    ("http://proxy.test.:80", ("http", "proxy.test", 80)),
])
def test_place(url, expected):
    assert place(url) == expected
    assert place(proxy_url(url)) == expected, "the one form says the same"


@pytest.mark.parametrize("url", [
    "", "proxy.test", "https://proxy.test:1", "http://:3128", "http://proxy.test:0", "http://proxy.test:99999",
    "http://a b:1", "http://a\r\nb:1", "http://proxy.test:1?x", "http://proxy.test:1#x", "http://[::1:1",
    "http://me@proxy.test:1", "http://me:secret@proxy.test:1",
])
def test_no_place(url):
    with pytest.raises(ValueError, match=r"write it|upstream_proxy_password_file") as caught:
        place(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("words", "host", "covered"), [
    ((), "127.0.0.1", True), ((), "::1", True), ((), "localhost", True), ((), "a.localhost", True),
    ((), "::ffff:127.0.0.1", True), ((), "127.1", True), ((), "0x7f.1", True), ((), "2130706433", True),
    ((), "10.0.0.1", False), (("local",), "10.0.0.1", True), (("local",), "fe80::1%eth0", True),
    (("local",), "192.168.1.1", True), (("local",), "::ffff:10.0.0.1", True), (("local",), "192.0.2.1", False),
    (("local",), "intranet", False), (("*.corp.test",), "a.corp.test", True), (("*.corp.test",), "corp.test", False),
    (("corp.test",), "corp.test", True), (("192.0.2.0/24",), "192.0.2.9", True), (("192.0.2.9",), "192.0.2.9", True),
    (("192.0.2.9",), "192.0.2.10", False), (("2001:db8::/32",), "2001:db8::1", True),
])
def test_exceptions(words, host, covered):
    assert Exceptions(tuple(map(exception, words))).covers(host) is covered


@pytest.mark.parametrize(("host", "expected"), [
    ("192.0.2.1", "192.0.2.1"), ("0xc0000201", "192.0.2.1"), ("127.1", "127.0.0.1"), ("::1", "::1"),
    ("origin.test", None), ("", None), ("a" * 300, None), ("ä", None),
])
def test_as_address(host, expected):
    assert as_address(host) == expected
