"""A real ICAP server's word counts, and what is no answer of one is a failure, not a pass."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from mitmproxy import http

from addons.icap import Icap
from addons.icapwire import LAST, Answer, IcapError, chunks, http_head, message
from addons.verdict import Action, Verdict
from tests.accepting import accepting
from tests.addons.conftest import request

MODULES = next(iter(Path("/usr/lib").glob("*/c_icap")), Path("/nowhere"))
CONFIGURATION = """
PidFile {folder}/pid
CommandsSocket {folder}/control
Port 127.0.0.1:{port}
TmpDir {folder}
ServerLog {folder}/server.log
MaxServers 2
StartServers 1
ThreadsPerChild 8
ModulesDir {modules}
ServicesDir {modules}
Service echo srv_echo.so
Service filter srv_content_filtering.so
srv_content_filtering.Match Virus body /a-known-virus/ score=9
srv_content_filtering.Match Place url /forbidden/ score=9
srv_content_filtering.Profile ours block score{{Virus>5}}
srv_content_filtering.Profile ours block score{{Place>5}}
srv_content_filtering.ProfileOption ours AnyContentType
acl everybody src 0.0.0.0/0.0.0.0
srv_content_filtering.ProfileAccess ours everybody
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of c-icap with an echo, and a service that blocks a word and a place."""
    if not shutil.which("c-icap") or not (MODULES / "srv_content_filtering.so").exists():
        pytest.skip("apt install c-icap libc-icap-mod-contentfiltering")
    folder = tmp_path_factory.mktemp("c-icap")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = folder / "c-icap.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, modules=MODULES))
    with subprocess.Popen(["c-icap", "-N", "-f", configuration], stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 10
            while time.monotonic() < until:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()


def flow(path: str = "/", body: bytes = b"", answer: bytes = b"fine") -> http.HTTPFlow:
    made = request(path, content_type="text/plain")
    made.request.raw_content = body
    made.response = http.Response.make(200, answer, {"content-type": "application/octet-stream"})
    return made


def asked(filter: Icap, made: http.HTTPFlow, times: int = 1) -> list[Verdict | None]:
    async def both() -> list[Verdict | None]:
        try:
            said = [(await filter.request(made), await filter.response(made)) for _ in range(times)]
            return list(said[-1])
        finally:
            await ended(filter)

    return asyncio.run(both())


async def ended(filter: Icap) -> None:
    filter.done()
    await asyncio.sleep(0.01)       # transports close in the loop's next turn


LONG = 300_000


@pytest.mark.parametrize(
    ("service", "made", "request_blocked", "response_blocked"),
    [
        pytest.param("echo", flow(body=b"x"), False, False, id="a byte"),
        pytest.param("echo", flow(body=bytes(LONG), answer=bytes(LONG)), False, False, id="more than a preview"),
        pytest.param("echo", flow(answer=b""), False, False, id="nothing"),
        pytest.param("filter", flow(body=b"this is a-known-virus!"), True, False, id="in a preview"),
        pytest.param("filter", flow(body=bytes(LONG) + b"a-known-virus"), True, False, id="at the end of a long body"),
        pytest.param("filter", flow(answer=b"a-known-virus"), False, True, id="in the response"),
        pytest.param("filter", flow(answer=bytes(LONG) + b"a-known-virus"), False, True, id="at its end"),
        pytest.param("filter", flow("/forbidden", b"x"), True, True, id="by the URL"),
    ],
)
def test_a_real_server(server: int, service: str, made: http.HTTPFlow, request_blocked: bool,
                       response_blocked: bool) -> None:
    verdicts = asked(Icap(f"icap://127.0.0.1:{server}/{service}"), made, times=3)
    assert [verdict is not None for verdict in verdicts] == [request_blocked, response_blocked]
    assert all(verdict.action is Action.BLOCK and "the ICAP server refuses it" in verdict.reason
               for verdict in verdicts if verdict)


def test_a_service_that_there_is_not(server: int) -> None:
    with pytest.raises(IcapError, match="does not offer"):
        asked(Icap(f"icap://127.0.0.1:{server}/none"), flow())


OPTIONS = b"ICAP/1.0 200 OK\r\nISTag: \"1\"\r\nEncapsulated: null-body=0\r\n\r\n"
AS_IT_WAS = http_head(f"POST {request().request.pretty_url} HTTP/1.1", [(b"host", b"site.example"), (b"via", b"icap")])
ELSEWHERE = http_head("POST https://other.example/ HTTP/1.1", [(b"host", b"other.example")])
FORBIDDEN = http_head("HTTP/1.1 403 Forbidden", [])


def modified(head: bytes, body: bytes, kind: str = "req", *, more: bytes = b"") -> bytes:
    places = b"Encapsulated: %b-hdr=0, %b-body=%d" % (kind.encode(), kind.encode(), len(head))
    return b"ICAP/1.0 200 OK\r\n" + more + places + b"\r\n\r\n" + head + b"".join(chunks(body)) + b"0\r\n\r\n"


def odd(answer: bytes, client: socket.socket) -> None:
    """Says that it offers the service, and then this, whatever comes."""
    with client:
        client.recv(65536)
        client.sendall(OPTIONS)
        heard = b""
        while not heard.endswith(LAST) and (more := client.recv(65536)):
            heard += more
        client.sendall(answer)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b"ICAP/1.0 204 No Content\r\nEncapsulated: null-body=0\r\n\r\n", None, id="204"),
        pytest.param(modified(AS_IT_WAS, b"body"), None, id="the same, by another way"),
        pytest.param(modified(AS_IT_WAS, b"Body"), "wants to change", id="another body"),
        pytest.param(modified(AS_IT_WAS, b"body."), "wants to change", id="a longer one"),
        pytest.param(modified(ELSEWHERE, b"body"), "wants to change", id="another URL"),
        pytest.param(modified(FORBIDDEN, b"no", "res"), "403 Forbidden", id="an answer in the origin's place"),
        pytest.param(modified(FORBIDDEN, b"no", "res", more=b"X-Infection-Found: Type=0; Resolution=2; Threat=Eicar;\r\n"),
                     "Eicar", id="with the name of what was found"),
        pytest.param(b"ICAP/1.0 500 Server error\r\n\r\n", IcapError, id="500"),
        pytest.param(b"ICAP/1.0 100 Continue\r\n\r\n", IcapError, id="100 without a preview"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", IcapError, id="another protocol"),
        pytest.param(b"ICAP/1.0 200 OK\r\nEncapsulated: req-hdr=0, req-body=99999999\r\n\r\n", IcapError, id="a head too long"),
        pytest.param(b"ICAP/1.0 200 OK\r\nEncapsulated: req-hdr=9, req-body=4\r\n\r\n", IcapError, id="out of order"),
        pytest.param(b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, req-body=0\r\n\r\nzz\r\n", IcapError, id="no chunk"),
        pytest.param(b"ICAP/1.0 200 OK\r\nno header\r\n\r\n", IcapError, id="no header"),
        pytest.param(b"ICAP/1.0 " + bytes(99999), IcapError, id="an endless head"),
        pytest.param(b"ICAP/1.0 200 OK\r\n\r\n", IcapError, id="no message"),
        pytest.param(b"ICAP/1.0 2", asyncio.IncompleteReadError, id="half a line"),
        pytest.param(modified(AS_IT_WAS, b"body")[:-9], asyncio.IncompleteReadError, id="cut short"),
    ],
)
def test_odd_answers(answer: bytes, expected: str | type[Exception] | None) -> None:
    with accepting(lambda client: partial(odd, answer, client)) as port:
        filter = Icap(f"icap://127.0.0.1:{port}/service", modes=("reqmod",))
        made = flow(body=b"body")

        async def ask() -> Verdict | None:
            try:
                return await filter.request(made)
            finally:
                await ended(filter)

        if isinstance(expected, type):
            with pytest.raises(expected):
                asyncio.run(ask())
        else:
            verdict = asyncio.run(ask())
            assert expected in verdict.reason if expected and verdict else verdict is None and expected is None


def test_a_message() -> None:
    head = http_head("GET http://a/ HTTP/1.1", [(b"Host", b"a"), (b"Connection", b"x"), (b"Transfer-Encoding", b"chunked")])
    assert head == b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"
    made = message("REQMOD", "icap://s/x", "s", [("req-hdr", head)], "req-body", [("Allow", "204")])
    assert made == (b"REQMOD icap://s/x ICAP/1.0\r\nHost: s\r\nAllow: 204\r\n"
                    b"Encapsulated: req-hdr=0, req-body=35\r\n\r\n" + head)
    assert Answer.read(b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, null-body=7\r\n\r\n").lengths == (("res-hdr", 7),)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"url": "http://a/b"}, "icap://HOST", id="scheme"),
        pytest.param({"url": "icap://a"}, "icap://HOST", id="no service"),
        pytest.param({"url": "icap://a:x/b"}, "port", id="port"),
        pytest.param({"url": "icap://a/b", "modes": ("both",)}, "modes", id="modes"),
        pytest.param({"url": "icap://a/b", "modified": "allow"}, "modified", id="modified"),
    ],
)
def test_bad_options(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Icap(**options)  # type: ignore[arg-type]


def test_bodies_are_collected_for_what_was_asked_alone() -> None:
    assert hasattr(Icap("icap://a/b"), "response")
    assert not hasattr(Icap("icap://a/b", modes=("reqmod",)), "response")
