"""Every name ends as one well-formed entry or is refused."""

import ipaddress

import pytest
from cryptography import x509

from certs.names import expressible, general_name

V4, V6 = ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        pytest.param("example.com", x509.DNSName("example.com"), id="host name"),
        pytest.param("localhost", x509.DNSName("localhost"), id="one label"),
        pytest.param("EXAMPLE.com", x509.DNSName("example.com"), id="case is folded, so the cache has one entry"),
        pytest.param("example.com.", x509.DNSName("example.com"), id="trailing dot"),
        pytest.param("*.example.com", x509.DNSName("*.example.com"), id="wildcard"),
        pytest.param("_dmarc.a_b.example", x509.DNSName("_dmarc.a_b.example"), id="underscore"),
        pytest.param("xn--mnchen-3ya.de", x509.DNSName("xn--mnchen-3ya.de"), id="A-label"),
        pytest.param("münchen.de", x509.DNSName("xn--mnchen-3ya.de"), id="U-label"),
        pytest.param("*.münchen.de", x509.DNSName("*.xn--mnchen-3ya.de"), id="wildcard and U-label"),
        pytest.param("192.0.2.1", x509.IPAddress(V4), id="IPv4"),
        pytest.param("2001:DB8:0::1", x509.IPAddress(V6), id="IPv6"),
        pytest.param(x509.DNSName("Example.com"), x509.DNSName("example.com"), id="ready DNS entry"),
        pytest.param(x509.IPAddress(V4), x509.IPAddress(V4), id="ready address entry"),
        pytest.param("a" * 63 + ".b", x509.DNSName("a" * 63 + ".b"), id="longest label"),
    ],
)
def test_accepted(name, entry):
    assert general_name(name) == entry


REFUSED = [
    pytest.param("", id="empty"),
    pytest.param(".", id="dot"),
    pytest.param("a..b", id="empty label"),
    pytest.param("a b.example", id="space"),
    pytest.param("a\0.example", id="NUL"),
    pytest.param("a.example\n", id="newline"),
    pytest.param("-a.example", id="leading hyphen"),
    pytest.param("a" * 64 + ".b", id="label too long"),
    pytest.param(".".join(["a" * 63] * 4), id="name too long"),
    pytest.param("*", id="wildcard alone"),
    pytest.param("a.*.example", id="wildcard inside"),
    pytest.param("f*.example", id="partial wildcard"),
    pytest.param("*.*.example", id="two wildcards"),
    pytest.param("127.1", id="short IPv4 form"),
    pytest.param("256.1.1.1", id="not an address"),
    pytest.param("[::1]", id="brackets"),
    pytest.param("fe80::1%eth0", id="zone"),
    pytest.param("faß.de", id="IDNA 2003 and 2008 disagree"),
    pytest.param("a.example:443", id="port"),
    pytest.param("https://a.example", id="URL"),
    pytest.param(x509.DNSName("a b"), id="ready entry with a space"),
    pytest.param(x509.RFC822Name("a@example.com"), id="mail address"),
    pytest.param(x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")), id="network"),
]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    with pytest.raises(ValueError, match=r"is not|is neither|is a network|for DNS names|no meaning|different hosts"):
        general_name(name)


@pytest.mark.parametrize("name", REFUSED)
def test_expressible_leaves_it_out(name):
    assert expressible(["a.example", name, "A.example"]) == [x509.DNSName("a.example")]
