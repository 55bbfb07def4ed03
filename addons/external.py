"""Filters that are programs of their own: any language, no crash of theirs is ours.  docs/filters.md has the protocol.

Theory of operation.  One program serves many messages at a time.  Each is told as lines of JSON: a `message` (what a
filter sees of it), `body` lines with at most `PIECE` bytes in base64, an `end`; the answer is one `verdict` with the
same `id`, at any time from the `message` on.  The program is started with the first message, told to end by the end of
its standard input, and started again when it has failed, with a pause.  What it does not answer is decided by the
rule's `on_error`.
"""

import asyncio
import base64
import contextlib
import json
import os
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mitmproxy import http

from addons.verdict import SAMPLE, Action, Finding, Verdict, labels

#: Version of the protocol, told in the first line of each program.
VERSION: Final = 1
#: Bytes of a body in one line.
PIECE: Final = 48 * 1024
#: Bytes of a line from the program: a verdict with a hundred findings has some 30 KiB.
MAX_LINE: Final = 64 * 1024
#: Messages that may wait for a verdict at a time: each holds its body, up to the rule's `buffer`.
MAX_WAITING: Final = 256
#: Seconds before a program that failed is started again, so that one that cannot start costs no processor.
PAUSE: Final = 1.0
#: Seconds that a program has to end when we do.
ENDS: Final = 1.0
#: Findings, and characters of a reason, that are taken from a program.
MAX_FINDINGS, MAX_REASON = 100, 500
MODES: Final = ("request", "response")
ACTIONS: Final = (Action.ALLOW, Action.ALERT, Action.BLOCK, Action.KILL)


class ProgramError(Exception):
    """The program has ended, or does not keep to the protocol."""


class Program:
    """The running program of one filter, and who waits for it."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._waiting: dict[int, asyncio.Future[Verdict | None]] = {}
        self._serial, self._failed_at = 0, float("-inf")

    async def ask(self, message: dict[str, Any], body: bytes) -> Verdict | None:
        """Return the program's verdict.  Raises ProgramError, OSError."""
        if len(self._waiting) >= MAX_WAITING:
            raise ProgramError(f"more than {MAX_WAITING} messages wait for the program")
        process = await self._running()
        assert process.stdin is not None
        self._serial += 1
        number = self._serial
        answer: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            for line in _lines(number, message, body):
                process.stdin.write(json.dumps(line).encode() + b"\n")
                await process.stdin.drain()
                if answer.done():       # it has seen enough
                    break
            return await answer
        except ConnectionError:
            raise ProgramError(f"{self._command[0]} has ended") from None
        finally:
            del self._waiting[number]

    async def _running(self) -> asyncio.subprocess.Process:
        async with self._starting:
            if self._process is not None and self._process.returncode is None and self._reading is not None \
                    and not self._reading.done():
                return self._process
            if time.monotonic() < self._failed_at + PAUSE:
                raise ProgramError(f"{self._command[0]} has failed, and is not started again yet")
            self.end()
            self._failed_at = time.monotonic()      # unless it goes on to answer
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=MAX_LINE)
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"type": "hello", "version": VERSION}).encode() + b"\n")
            self._reading = asyncio.create_task(self._read(self._process))
            return self._process

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Hand out its verdicts until it ends, or says what it may not; then nobody waits any longer."""
        assert process.stdout is not None
        why = f"{self._command[0]} has ended"
        try:
            while line := await process.stdout.readline():
                number, verdict = read_verdict(line)
                self._failed_at = float("-inf")
                if (answer := self._waiting.get(number)) is not None and not answer.done():
                    answer.set_result(verdict)
        except ValueError as error:         # also a line that is too long
            why = f"{self._command[0]} does not keep to the protocol: {error}"
        except asyncio.CancelledError:      # the loop ends, and should have seen the program end
            _end(process)
            with contextlib.suppress(TimeoutError):     # it has been told; more than that we do not wait
                await asyncio.wait_for(process.wait(), ENDS)
            raise
        finally:
            self._failed_at = time.monotonic()
            _end(process)
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(ProgramError(why))

    def end(self) -> None:
        """Tell it to end."""
        if self._process is not None:
            _end(self._process)
        self._process = None


def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        process.terminate()


@dataclass
class External:
    """A program decides on requests, responses or both.

    `program` is its path, `arguments` what it is started with.  It runs as the proxy's user, and sees each message
    whole: bodies are collected up to the rule's `buffer`, as they travel, and `on_error` speaks where they are larger,
    where the program fails, and where it has not answered in `deadline`.  `modes` says what it sees: `request`,
    `response`.
    """

    program: Path
    arguments: tuple[str, ...] = ()
    modes: tuple[str, ...] = ("request",)
    _program: Program | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if not self.program.is_file() or not os.access(self.program, os.X_OK):
            raise ValueError(f"program: {self.program} is no file that may be run")
        if not self.modes or set(self.modes) - set(MODES):
            raise ValueError(f"modes: {', '.join(self.modes) or 'none'}; there are {', '.join(MODES)}")
        # The chain collects bodies for filters that have these hooks, so a filter has only those that it was asked for.
        if "request" in self.modes:
            self.request = self._request
        if "response" in self.modes:
            self.response = self._response

    def done(self) -> None:
        """The filter is not asked any more."""
        if self._program is not None:
            self._program.end()

    async def _request(self, flow: http.HTTPFlow) -> Verdict | None:
        return await self._asked().ask(describe(flow, "request"), flow.request.raw_content or b"")

    async def _response(self, flow: http.HTTPFlow) -> Verdict | None:
        if flow.response is None:
            return None
        return await self._asked().ask(describe(flow, "response"), flow.response.raw_content or b"")

    def _asked(self) -> Program:
        if self._program is None:       # not before there is a loop
            self._program = Program((str(self.program), *self.arguments))
            weakref.finalize(self, Program.end, self._program)      # also where nobody says `done`
        return self._program


def describe(flow: http.HTTPFlow, what: str) -> dict[str, Any]:
    """Return what a program is told of a message; header values are Latin-1, as HTTP has them."""
    message: dict[str, Any] = {
        "type": "message", "what": what, "method": flow.request.method, "url": flow.request.pretty_url,
        "headers": _pairs(flow.request.headers.fields), "labels": sorted(labels(flow)), "process": None,
    }
    if (process := flow.metadata.get("process")) is not None:
        message["process"] = {"pid": process.pid, "exe": process.exe, "user": process.user,
                              "service": process.service, "container": process.container}
    if what == "response" and flow.response is not None:
        message |= {"status": flow.response.status_code,
                    "response_headers": _pairs(flow.response.headers.fields)}
    return message


def _pairs(fields: Iterable[tuple[bytes, bytes]]) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in fields]


def _lines(number: int, message: dict[str, Any], body: bytes) -> Iterable[dict[str, Any]]:
    yield {**message, "id": number, "length": len(body)}
    for at in range(0, len(body), PIECE):
        yield {"type": "body", "id": number, "data": base64.b64encode(body[at : at + PIECE]).decode()}
    yield {"type": "end", "id": number}


def read_verdict(line: bytes) -> tuple[int, Verdict | None]:
    """Return the number and the verdict of a line; ValueError if it is none.

    `action` is allow, alert, block, kill, or `none` for no opinion.  Of a finding's sample the first characters are
    kept, whatever the program sends.
    """
    try:
        said = json.loads(line)
        if said["type"] != "verdict":
            raise ValueError(f"not a verdict but {said['type']!r}"[:80])
        number, action, reason = said["id"], said["action"], str(said.get("reason", ""))[:MAX_REASON]
        if not isinstance(number, int):
            raise ValueError("an id that is no number")
        if action == "none":
            return number, None
        if action not in ACTIONS:
            raise ValueError(f"no action {action!r}"[:80])
        found = tuple(map(_finding, said.get("findings", [])[:MAX_FINDINGS]))
        return number, Verdict(Action(action), reason or f"the program says {action}", found)
    except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"a line that is no verdict ({type(error).__name__}: {error})"[:200]) from None


def _finding(said: dict[str, Any]) -> Finding:
    start = int(said.get("start", 0))
    shown = str(said.get("sample", ""))[:SAMPLE]
    rule, kind, where = (str(said.get(name, default))[:200] for name, default in (
        ("rule", ""), ("kind", "external"), ("where", "body")))
    return Finding(rule, kind, where, start, int(said.get("end", start)), f"{shown}…")
