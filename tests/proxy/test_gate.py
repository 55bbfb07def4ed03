"""Filters that fail, stock addons, monitor mode and `when`: no request passes unfiltered, the others go on."""

import threading
import time

import pytest

from tests.proxy.conftest import running

ROOTS = "version: 1\ntls: {{upstream: {{trusted_ca: {roots}}}}}\nlimits: {{answer: 2, hello: 3}}\n"
FILTERS = """
import asyncio, re, sys, time
from mitmproxy import http
from lockgate import allow, alert, block, label
class Raises:
    def requestheaders(self, flow): 1 / 0
class Sleeps:
    def requestheaders(self, flow): time.sleep(9)
class Loops:
    def requestheaders(self, flow):
        while True:
            try: sum(range(1000))
            except Exception: pass
class Regex:
    def requestheaders(self, flow): re.match(r"(a+)+$", "a" * 40 + "b")
class Exits:
    def requestheaders(self, flow): sys.exit(1)
class Interrupts:
    def requestheaders(self, flow): raise KeyboardInterrupt
class Nonsense:
    def requestheaders(self, flow): return "block"
class Waits:
    async def requestheaders(self, flow): await asyncio.sleep(9)
class AsyncRaises:
    async def requestheaders(self, flow):
        await asyncio.sleep(0)
        1 / 0
class AsyncExits:
    async def requestheaders(self, flow):
        await asyncio.sleep(0)
        raise SystemExit
class AsyncLoops:
    async def requestheaders(self, flow):
        await asyncio.sleep(0)
        while True: pass
class AsyncStays:
    async def requestheaders(self, flow):
        while True:
            try: await asyncio.sleep(9)
            except asyncio.CancelledError: pass
class AsyncBlocks:
    async def requestheaders(self, flow):
        await asyncio.sleep(0.001)
        return block("after a while")
class NoScanner:
    def requestbody(self, flow): raise ValueError
class BadScanner:
    def requestbody(self, flow): return lambda piece: 1 / 0
class WholeRaises:
    def request(self, flow): 1 / 0
class ResponseRaises:
    def responseheaders(self, flow): 1 / 0
class ResponseWholeRaises:
    def response(self, flow): 1 / 0
class ResponseScannerRaises:
    def responsebody(self, flow): return lambda piece: 1 / 0
class Blocks:
    def requestheaders(self, flow): return block("as it says")
class Alerts:
    def requestheaders(self, flow): return alert("look")
class Allows:
    def requestheaders(self, flow): return allow("friend")
class Observes:
    seen = []
    def request(self, flow): self.seen.append(flow.request.content)
    def response(self, flow): self.seen.append(flow.response.content)
class Modifies:
    def request(self, flow):
        flow.request.headers["x-added"] = "yes"
        flow.request.content = flow.request.content.replace(b"cat", b"horse")
    def response(self, flow):
        flow.response.headers["x-seen"] = "yes"
        flow.response.text = flow.response.text.upper()
class Answers:
    def request(self, flow): flow.response = http.Response.make(418, b"teapot")
class AnswersEarly:
    def requestheaders(self, flow): flow.response = http.Response.make(418, b"teapot")
class Kills:
    def request(self, flow): flow.kill()
class KillsEarly:
    def requestheaders(self, flow): flow.kill()
class KillsLate:
    def response(self, flow): flow.kill()
"""
POST = b"POST / HTTP/1.1\r\nhost: origin.test\r\ncontent-length: 5\r\n\r\na cat"
CHUNKED = b"POST / HTTP/1.1\r\nhost: origin.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\na cat\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def proxy(folder, origin):
    with running(folder / "worker", ROOTS.format(roots=origin.roots), FILTERS) as started:
        yield started


def use(proxy, origin, *filters):
    """Put these filters in force: each the class, or the class and more of its rule."""
    rules = ""
    for number, rule in enumerate(filters):
        name, comma, more = rule.partition(",")
        rules += f"  - {{id: f{number}, use: ./mine.py:{name}{comma}{more}}}\n"
    proxy.reload(ROOTS.format(roots=origin.roots) + "filters:\n" + rules)
    proxy.said("reloaded")


BROKEN = ["Raises", "Sleeps", "Loops", "Regex", "Exits", "Interrupts", "Nonsense", "Waits", "AsyncRaises", "AsyncExits",
          "AsyncLoops", "AsyncStays", "NoScanner", "BadScanner", "WholeRaises"]
BROKEN_LATE = ["ResponseRaises", "ResponseWholeRaises", "ResponseScannerRaises"]


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("request_", [POST, CHUNKED], ids=["length", "chunked"])
def test_broken_filter_blocks(proxy, origin, name, request_):
    use(proxy, origin, name)
    started = time.monotonic()
    answer = proxy.ask(origin, request_, "POST")
    assert time.monotonic() - started < 2
    assert answer.status == 403
    assert b"the filter" in answer.body
    assert b"a cat" not in origin.record
    assert not any(word in answer.body for word in (b"division", b"Error", b"Exit")), "what it raised is not the client's"


@pytest.mark.parametrize("name", BROKEN_LATE)
def test_broken_filter_withholds_the_response(proxy, origin, name):
    use(proxy, origin, name)
    answer = proxy.ask(origin, POST, "POST")
    assert b"ok" not in answer.body
    assert not (answer.status == 200 and answer.ended)


@pytest.mark.parametrize("name", BROKEN + BROKEN_LATE)
def test_broken_filter_may_be_passed_over(proxy, origin, name):
    use(proxy, origin, f"{name}, on_error: allow")
    answer = proxy.ask(origin, POST, "POST")
    assert (answer.status, answer.body) == (200, b"ok")


def test_the_next_filter_is_still_asked(proxy, origin):
    use(proxy, origin, "Raises, on_error: allow", "Sleeps, on_error: allow", "Blocks")
    assert b"as it says" in proxy.ask(origin, POST, "POST").body


def test_failures_are_recorded(proxy, origin):
    use(proxy, origin, "Raises, on_error: allow", "Loops")
    assert proxy.ask(origin, POST, "POST").status == 403
    passed, final = (event["lockgate"] for event in proxy.events()[-2:])
    assert (passed["verdict"], passed["failed"]) == ("alert", True)
    assert (final["verdict"], final["failed"]) == ("block", True)


def test_asynchronous_block(proxy, origin):
    use(proxy, origin, "AsyncBlocks")
    assert b"after a while" in proxy.ask(origin, POST, "POST").body


@pytest.mark.parametrize(("rules", "status"), [
    pytest.param(["Blocks"], 403, id="block"),
    pytest.param(["Alerts", "Blocks"], 403, id="an alert does not end the chain"),
    pytest.param(["Allows", "Blocks"], 200, id="an allow does"),
    pytest.param(["Allows", "BadScanner", "WholeRaises"], 200, id="also for bodies"),
    pytest.param(["Blocks, mode: monitor"], 200, id="monitor"),
    pytest.param(["Raises, mode: monitor"], 200, id="monitor, failing"),
    pytest.param(["BadScanner, mode: monitor"], 200, id="monitor, failing scanner"),
    pytest.param(["Blocks, when: ~m GET"], 200, id="when it does not apply"),
    pytest.param(["Blocks, when: ~m POST"], 403, id="when it does"),
])
def test_chain(proxy, origin, rules, status):
    use(proxy, origin, *rules)
    assert proxy.ask(origin, POST, "POST").status == status
    assert (origin.record == b"") == (status != 200)


def test_others_go_on_while_one_waits(proxy, origin):
    use(proxy, origin, "Waits, when: ~u slow, deadline: 1500")
    slow = threading.Thread(target=proxy.ask, args=(origin, b"GET /slow HTTP/1.1\r\nhost: origin.test\r\n\r\n"))
    slow.start()
    started = time.monotonic()
    assert proxy.ask(origin, POST, "POST").status == 200
    assert time.monotonic() - started < 1
    slow.join()


# -- stock addons


def test_observer(proxy, origin):
    use(proxy, origin, "Observes")
    assert proxy.ask(origin, POST, "POST").body == b"ok"


def test_modifier(proxy, origin, h2_origin):
    use(proxy, origin, "Modifies")
    answer = proxy.ask(origin, POST, "POST")
    assert (answer.body, answer.headers["x-seen"]) == (b"OK", "yes")
    assert origin.record.endswith(b"a horse")
    assert b"x-added: yes" in origin.record
    client = proxy.h2(h2_origin)
    stream = client.request("/", "POST", end=False)
    client.send(stream, b"a cat", end=True)
    answer = client.wait(stream)
    assert (answer.body, answer.headers["x-seen"]) == (b"OK", "yes")
    assert h2_origin.record.endswith(b"a horse")


def test_observer_of_more_than_it_may_keep(proxy, origin):
    use(proxy, origin, "Observes, buffer: 1000")
    assert proxy.upload(origin, b"z" * 5000).status == 403
    assert origin.record == b""
    use(proxy, origin, "Modifies, buffer: 1000, on_error: allow")
    assert proxy.upload(origin, b"cat" * 5000).status == 200
    assert origin.record.endswith(b"cat" * 5000)


@pytest.mark.parametrize("name", ["Answers", "AnswersEarly"])
def test_addon_answers(proxy, origin, name):
    use(proxy, origin, name)
    answer = proxy.ask(origin, POST, "POST")
    assert (answer.status, answer.body) == (418, b"teapot")
    assert origin.record == b""


@pytest.mark.parametrize("name", ["Kills", "KillsEarly", "KillsLate"])
def test_addon_kills(proxy, origin, name):
    use(proxy, origin, name)
    assert proxy.ask(origin, POST, "POST").status == 0
    assert (origin.record == b"") == (name != "KillsLate")
    assert proxy.events()[-1]["lockgate"]["verdict"] == "kill"


# -- reload


@pytest.mark.parametrize("bad", [
    "version: 1\nfilters: [", "version: 2\n", "version: 1\nfilters:\n  - {id: a, use: ./mine.py:Nobody}\n"])
def test_a_bad_policy_leaves_the_old_one(proxy, origin, bad):
    use(proxy, origin, "Blocks")
    proxy.reload(bad)
    assert proxy.said("reload-failed")["errors"]
    assert proxy.ask(origin, POST, "POST").status == 403


def test_reload_by_the_file_alone(proxy, origin):
    use(proxy, origin, "Blocks")
    proxy.policy.write_text(ROOTS.format(roots=origin.roots))
    proxy.said("reloaded")
    assert proxy.ask(origin, POST, "POST").status == 200


def test_reload_under_load(proxy, origin):
    """No request is unfiltered, none is lost."""
    use(proxy, origin, "Blocks")
    statuses, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            statuses.append(proxy.ask(origin, POST, "POST").status)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        use(proxy, origin, "Blocks")
        proxy.reload("version: 9")
        proxy.said("reload-failed")
    stop.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {403}
    assert origin.record == b""
