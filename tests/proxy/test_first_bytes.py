"""An answer that is refused by its first bytes: words where its length is announced, a cut where it streams."""

import pytest

from tests.proxy.conftest import running

POLICY = """\
version: 1
tls: {{upstream: {{trusted_ca: {roots}}}}}
filters:
  - {{id: programs, use: limits.Contents, with: {{block: [executable]}}}}
  - {{id: big, use: limits.Sizes, with: {{response: 100000}}}}
"""
PROGRAM = b"MZ\x90\0\3\0\0\0" + b"\0" * 50_000
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n"


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", POLICY.format(roots=origin.roots)) as started:
        yield started


def get(proxy, origin, path, answer):
    origin.paths[path] = answer
    return proxy.ask(origin, f"GET {path} HTTP/1.1\r\nhost: origin.test\r\n\r\n".encode())


def test_a_program_with_a_length(proxy, origin):
    answer = get(proxy, origin, "/a", HEAD + b"content-length: %d\r\n\r\n" % len(PROGRAM) + PROGRAM)
    assert (answer.status, answer.ended) == (403, True)
    assert b"application/pe" in answer.body
    assert proxy.events()[-1]["lockgate"]["filter"] == "programs"


def test_a_program_in_chunks(proxy, origin):
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(PROGRAM), PROGRAM)
    answer = get(proxy, origin, "/b", HEAD + b"transfer-encoding: chunked\r\n\r\n" + body)
    assert (answer.status, answer.body, answer.ended) == (200, b"", False)


def test_an_image(proxy, origin):
    image = b"\x89PNG\r\n\x1a\n" + b"\1" * 60_000
    answer = get(proxy, origin, "/c", HEAD + b"content-length: %d\r\n\r\n" % len(image) + image)
    assert (answer.status, answer.body == image, answer.ended) == (200, True, True)


def test_an_empty_answer(proxy, origin):
    assert get(proxy, origin, "/d", HEAD + b"content-length: 0\r\n\r\n").ended


def test_too_large(proxy, origin):
    answer = get(proxy, origin, "/e", b"HTTP/1.1 200 OK\r\ncontent-length: 100001\r\n\r\n" + b"x" * 100_001)
    assert (answer.status, b"100001 bytes" in answer.body) == (403, True)
    grown = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"186a1\r\n" + b"x" * 100_001 + b"\r\n0\r\n\r\n"
    assert not get(proxy, origin, "/f", grown).ended


def test_http2(proxy, h2_origin):
    h2_origin.h2_paths["/p"] = lambda server, stream: server.answer(
        stream, PROGRAM[:9000], headers=(("content-length", "9000"),))
    client = proxy.h2(h2_origin)
    answer = client.wait(client.request("/p"))
    assert answer.status in (403, 200)
    assert PROGRAM[:100] not in answer.body
    assert client.wait(client.request("/")).body == b"ok"
