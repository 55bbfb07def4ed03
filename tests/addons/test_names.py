"""One host has one form, however it is written."""

import pytest

from addons.names import covers, host_of, normal
from tests.addons.conftest import request


@pytest.mark.parametrize(
    ("host", "name"),
    [
        pytest.param("Example.COM", "example.com", id="case"),
        pytest.param("example.com.", "example.com", id="trailing dot"),
        pytest.param("bücher.example", "xn--bcher-kva.example", id="IDNA"),
        pytest.param("BÜCHER.example", "xn--bcher-kva.example", id="IDNA and case"),
        pytest.param("2001:DB8::1", "2001:db8::1", id="IPv6"),
    ],
)
def test_normal(host: str, name: str) -> None:
    assert normal(host) == name


def test_a_name_that_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="not a host name"):
        normal("ü" * 70 + ".example")


@pytest.mark.parametrize(
    ("header", "name"),
    [
        pytest.param("A.example:8443", "a.example", id="port"),
        pytest.param("[2001:db8::1]:443", "2001:db8::1", id="IPv6 and port"),
        pytest.param("192.0.2.1", "192.0.2.1", id="IPv4"),
    ],
)
def test_host_of_a_request(header: str, name: str) -> None:
    flow = request(host=header)
    assert host_of(flow.request) == name
    flow.request.headers.clear()
    flow.request.authority = header
    assert host_of(flow.request) == name


def test_host_of_a_request_without_a_name_is_where_it_goes() -> None:
    flow = request()
    flow.request.data.headers.clear()
    flow.request.data.host = "Origin.example"
    assert host_of(flow.request) == "origin.example"


def test_a_host_that_is_none() -> None:
    with pytest.raises(ValueError, match="not a host name"):
        host_of(request(host="a:b:c").request)


@pytest.mark.parametrize(
    ("host", "covered"),
    [("a.example", True), ("x.a.example", True), ("xa.example", False), ("example", False), ("", False)],
)
def test_covers(host: str, covered: bool) -> None:
    assert covers(("a.example",), host) is covered
