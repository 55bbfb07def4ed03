"""PDF documents: collected, since their end says where everything is, then read by a process of its own.

Pages are views `pdf > page[1]`, what forms and notes hold `notes[1]`, attached files `file:NAME`.  Nothing of a
document leaves before it is read.  Pictures of text are not read.
"""

import asyncio
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Generator, Iterator
from typing import Final

from addons.decode import Unscannable
from addons.views.container import guessed
from addons.views.pdfworker import MAX_ANSWER
from addons.views.tree import STEP, View

#: Bytes of one document, and of all that are being collected; beyond them a document is unscannable.
MAX_DOCUMENT: Final = 32 * 1024 * 1024
MAX_COLLECTED: Final = 128 * 1024 * 1024
#: Bytes at its end in which the mark of it must stand (PDF 32000-1, appendix H, note 18, with as much again).
END: Final = 2048
#: Seconds until an answer must be there.
PATIENCE: Final = 30
#: Processes at once, and documents after which one is replaced, so that what it leaks does not add up.
PROCESSES: Final = 2
RENEWED: Final = 200

_TOO_LONG: Final = "a PDF document that takes too long to read"
_CRASHED: Final = "a PDF document that broke its reader"
_COMMAND: Final = (sys.executable, "-I", "-O", "-W", "ignore", "-m", "addons.views.pdfworker")

Frame = tuple[bytes, bytes]


class Process:
    """One worker; used by one thread at a time."""

    def __init__(self) -> None:
        self.asked = 0
        system = {"SYSTEMROOT": os.environ.get("SYSTEMROOT", "")} if sys.platform == "win32" else {}
        self._process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL, env=system)

    def ask(self, data: bytes) -> list[Frame]:
        """Return what is in a document; raises `Unscannable`, after which the process is gone."""
        self.asked += 1
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        watch = threading.Timer(PATIENCE, stop)
        watch.daemon = True
        watch.start()
        try:
            return self._exchange(data)
        except (OSError, EOFError):
            self.close()
            raise Unscannable(_TOO_LONG if late.is_set() else _CRASHED) from None
        finally:
            watch.cancel()

    def _exchange(self, data: bytes) -> list[Frame]:
        to, back = self._process.stdin, self._process.stdout
        if to is None or back is None:
            raise EOFError
        to.write(len(data).to_bytes(8) + data)
        to.flush()
        frames: list[Frame] = []
        left = MAX_ANSWER + 4096
        while True:
            head = back.read(5)
            size = int.from_bytes(head[1:])
            left -= size + 5
            if len(head) < 5 or left < 0 or len(content := back.read(size)) < size:
                raise EOFError
            if head[:1] == b".":
                return frames
            frames.append((head[:1], content))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue


class Pool:
    """The workers: started when first needed, kept, replaced now and then."""

    def __init__(self) -> None:
        self._free: list[Process] = []
        self._places = threading.Semaphore(PROCESSES)
        self._lock = threading.Lock()

    def read(self, data: bytes) -> list[Frame]:
        """Return what is in a document; blocks, raises `Unscannable`."""
        if not self._places.acquire(timeout=PATIENCE):
            raise Unscannable("a PDF document for which no reader was free")
        try:
            with self._lock:
                process = self._free.pop() if self._free else None
            if process is None:
                try:
                    process = Process()
                except OSError:
                    raise Unscannable("a PDF document, whose reader cannot be started") from None
            frames = process.ask(data)
            if process.asked >= RENEWED:
                process.close()
            else:
                with self._lock:
                    self._free.append(process)
            return frames
        finally:
            self._places.release()

    def close(self) -> None:
        """End the processes that wait; they end by themselves when this one does."""
        with self._lock:
            free, self._free = self._free, []
        for process in free:
            process.close()


POOL: Final = Pool()


class Reading(Awaitable[list[Frame]]):
    """The answer about a document: asked for when awaited, in a thread."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __await__(self) -> Generator[object, None, list[Frame]]:
        return asyncio.to_thread(POOL.read, self._data).__await__()


class Collected:
    """Bytes kept of all documents together; what a dropped message kept is given back with it."""

    total = 0

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> None:
        if self.size + len(data) > MAX_DOCUMENT:
            raise Unscannable(f"a PDF document of more than {MAX_DOCUMENT >> 20} MiB")
        if Collected.total + len(data) > MAX_COLLECTED:
            raise Unscannable(f"a PDF document, while others of {MAX_COLLECTED >> 20} MiB are being read")
        self.pieces.append(data)
        self.size += len(data)
        Collected.total += len(data)

    def clear(self) -> None:
        Collected.total -= self.size
        self.pieces, self.size = [], 0

    def __del__(self) -> None:
        Collected.total -= self.size


class Pdf:
    """A reader of one document."""

    #: That this is one is no guess: its first bytes say so.
    sure = True

    def __init__(self, view: View) -> None:
        self._view, self._kept, self._whole = view, Collected(), True
        view.pin()

    def feed(self, data: bytes) -> None:
        try:
            self._kept.add(data)
        except Unscannable:
            self._kept.clear()
            self._view.unpin()
            raise

    def end(self) -> None:
        self._whole = not guessed(self._view) or b"%%EOF" in b"".join(self._kept.pieces[-2:])[-END:]
        self._view.tree.later(self._view, Reading(b"".join(self._kept.pieces)), self._show)
        self._kept.pieces.clear()

    def _show(self, result: object) -> Iterator[None]:
        self._kept.clear()
        pages, name = itertools.count(1), ""
        page = 0
        if not isinstance(result, list):
            return
        for kind, content in result:
            if kind == b"e" and (self.sure or len(result) > 1) and (self._whole or b"encrypted" in content):
                self._view.unscannable(content.decode("utf-8", "replace")[:200])
            elif kind == b"n":
                name = content.decode("utf-8", "replace")
            elif kind == b"a":
                yield from self._open(f"file:{name}", content, name)
            elif kind == b"t":
                page = next(pages)
                yield from self._open(f"page[{page}]", content)
            elif kind == b"f":
                yield from self._open(f"notes[{page}]", content)
            elif kind == b"m":
                yield from self._open("metadata", content)

    def _open(self, step: str, content: bytes, name: str = "") -> Iterator[None]:
        view = self._view.inside(step, name=name)
        try:
            for at in range(0, len(content), STEP):
                view.feed(content[at : at + STEP])
                yield
        finally:
            view.end()


class Mentioned(Pdf):
    """A document that does not begin at once, which readers allow; or a text that speaks of the format."""

    sure = False
