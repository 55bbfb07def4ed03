"""A filter in a program of its own: its word counts, its failures are ours to answer, and it ends with the filter."""

import asyncio
import stat
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http

from addons.external import External, ProgramError, read_verdict
from addons.verdict import Action, Verdict, label
from tests.addons.conftest import request

EXAMPLE = Path(__file__).parents[2] / "examples/word_watch.py"
#: What programs of the tests begin with.
COMMON = """#!{python} -S
import base64, json, os, sys, time
def say(told, action, **more):
    print(json.dumps({{"type": "verdict", "id": told["id"], "action": action, **more}}), flush=True)
hello = json.loads(sys.stdin.readline())
assert hello == {{"type": "hello", "version": 1}}
for line in sys.stdin:
    told = json.loads(line)
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], Path]:
    """Make one, from what it does with each line."""

    def make(does: str) -> Path:
        path = tmp_path / "program.py"
        path.write_text(COMMON.format(python=sys.executable) + "".join(f"    {line}\n" for line in does.splitlines()))
        path.chmod(0o755)
        return path

    return make


def flow(body: bytes = b"") -> http.HTTPFlow:
    made = request("/x?y", x_note="hello")
    made.request.raw_content = body
    label(made, "kind:api")
    return made


def run[T](filter: External, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    async def whole() -> T:
        try:
            return await work()
        finally:
            program = filter._program
            process, reading = (program._process, program._reading) if program else (None, None)
            filter.done()
            if process and reading:
                async with asyncio.timeout(5):
                    await asyncio.gather(process.wait(), reading)

    return asyncio.run(whole())


def asked(filter: External, *flows: http.HTTPFlow) -> list[Verdict | BaseException | None]:
    async def all_at_once() -> list[Verdict | BaseException | None]:
        return list(await asyncio.gather(*(filter.request(each) for each in flows), return_exceptions=True))

    return run(filter, all_at_once)


@pytest.mark.parametrize("size", [0, 1, 48 * 1024, 48 * 1024 + 1, 1_000_000])
def test_the_example(size: int) -> None:
    filter = External(EXAMPLE, ("walrus",))
    clean, guilty = asked(filter, flow(bytes(size)), flow(bytes(size) + b"walrus"))
    assert clean is None
    assert isinstance(guilty, Verdict)
    assert (guilty.action, guilty.reason, guilty.findings[0].start) == (Action.BLOCK, "it holds the word", size)


def test_it_is_told_what_a_filter_sees(program: Callable[[str], Path]) -> None:
    filter = External(program('if told["type"] == "message":\n    say(told, "alert", reason=line)'))
    (said,) = asked(filter, flow(b"four"))
    assert isinstance(said, Verdict)
    for part in ('"url": "http', '/x?y"', '["x-note", "hello"]', '"labels": ["kind:api"]', '"length": 4', '"what": "request"'):
        assert part in said.reason


def test_many_at_a_time_and_each_gets_its_own(program: Callable[[str], Path]) -> None:
    does = 'if told["type"] == "body":\n    say(told, "block", reason=base64.b64decode(told["data"]).decode())'
    found = asked(External(program(does)), *(flow(str(i).encode()) for i in range(50)))
    assert [each.reason for each in found if isinstance(each, Verdict)] == list(map(str, range(50)))


FAILS = [
    pytest.param("sys.exit()", "has ended", id="ends"),
    pytest.param("print('what?', flush=True)", "protocol", id="says what is no JSON"),
    pytest.param("print('{}', flush=True)", "protocol", id="no verdict"),
    pytest.param("say(told, 'forgive')", "protocol", id="no such action"),
    pytest.param("print('x' * 100_000, flush=True)", "protocol", id="an endless line"),
    pytest.param("os.close(1); time.sleep(20)", "has ended", id="closes its output"),
]


@pytest.mark.parametrize(("does", "why"), FAILS)
def test_failures_are_raised_and_the_next_message_starts_it_anew_after_a_pause(
        program: Callable[[str], Path], does: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(does)
    filter = External(path)

    async def three() -> list[Any]:
        found: list[Any] = [(await asyncio.gather(filter.request(flow()), return_exceptions=True))[0] for _ in range(2)]
        program("say(told, 'none') if told['type'] == 'end' else None")
        monkeypatch.setattr("addons.external.PAUSE", 0.0)
        return [*found, await filter.request(flow())]

    failed, paused, mended = run(filter, three)
    assert isinstance(failed, ProgramError)
    assert why in str(failed)
    assert isinstance(paused, ProgramError)
    assert "not started again yet" in str(paused)
    assert mended is None


def test_one_that_hangs_is_given_up_by_the_deadline_and_ended(program: Callable[[str], Path]) -> None:
    filter = External(program("time.sleep(60)"))

    async def ask() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await filter.request(flow())
        assert filter._program is not None
        assert not filter._program._waiting

    run(filter, ask)        # it would not end within five seconds by itself


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"type":"verdict","id":7,"action":"none"}', (7, None)),
        (b'{"type":"verdict","id":7,"action":"kill","reason":"r"}', (7, Action.KILL)),
        (b'{"type":"verdict","id":"7","action":"kill"}', None),
        (b'{"type":"verdict","action":"kill"}', None),
        (b'{"type":"verdict","id":7,"action":"block","findings":[7]}', None),
        (b'{"type":"verdict","id":7,"action":"block","findings":[{"start":Infinity}]}', None),
        (b'{"type":"hello"}', None),
        (b"[]", None),
        (b"[" * 30000, None),
        (b"\xff", None),
    ],
)
def test_verdicts(line: bytes, expected: tuple[int, Action | None] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match=r"verdict|action|number|Expecting|decode"):
            read_verdict(line)
    else:
        number, verdict = read_verdict(line)
        assert (number, verdict and verdict.action) == expected


def test_no_value_of_a_finding_comes_through() -> None:
    _, verdict = read_verdict(b'{"type":"verdict","id":1,"action":"block","findings":[{"rule":"r","sample":"4111111111111111"}]}')
    assert verdict is not None
    assert verdict.findings[0].sample == "4111…"


@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_program_that_cannot_be_run_is_a_mistake_of_the_policy(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "program"
    if mode is not None:
        path.touch(mode)
    with pytest.raises(ValueError, match="may be run"):
        External(path)
    assert not path.exists() or stat.S_IMODE(path.stat().st_mode) == mode
