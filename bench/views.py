"""What it costs to read the views of a body: `python -m bench.views [--rounds 5] [KIND ...]`.

Times are nanoseconds a byte of processor time for the tree with all readers and nobody who listens, medians, with
`zlib.crc32` of the same bytes in the same run: trust the ratio.  `step` is the longest that one piece of 16 KiB took,
in milliseconds, as the least of the rounds.  `opening` is what a view costs however short it is, in microseconds.
"""

import argparse
import base64
import codecs
import gzip
import html
import json
import random
import re
import statistics
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from addons.views import Listener, Tree, View

SIZE, PIECE, OPENED = 1 << 20, 16 * 1024, 300


class Deaf:
    """Hears nothing."""

    def opened(self, view: View) -> Listener | None:
        return None

    def unscannable(self, view: View, reason: str) -> None: ...


def bodies() -> Iterator[tuple[str, bytes]]:
    """Ordinary bodies, then floods: what costs most for its size."""
    dice = random.Random(1)  # noqa: S311
    sources = b"\n".join(path.read_bytes() for path in sorted(Path(re.__file__).parent.parent.glob("*.py")))
    words = re.findall(rb"[A-Za-z]{2,12}", sources)
    prose = b" ".join(dice.choices(words, k=200_000))
    rows = [{"id": n, "uuid": f"{dice.getrandbits(128):032x}", "name": dice.choice(words).decode(), "note": "a\nb",
             "url": f"https://a.example/p/{n}", "price": dice.random()} for n in range(8_000)]  # fmt: skip
    tags = (f'<div class="item-{n}"><a href="/p?id={n}&amp;q=a%20b">{word.decode()}</a></div>\n'
            for n, word in enumerate(dice.choices(words, k=16_000)))
    js = re.sub(rb"\s*([=(),:\[\]{}])\s*", rb"\1", re.sub(rb"\n\s*", b";", sources))
    files = b'{"file": "' + base64.b64encode(dice.randbytes(SIZE * 3 // 4)) + b'"}'
    yield "prose", prose
    yield "source", sources
    yield "html", "".join(tags).encode()
    yield "json", json.dumps(rows).encode()
    yield "minified", js
    yield "form", b"a=" + urllib.parse.quote_plus(prose[: SIZE - 100]).encode()
    yield "base64 json", files
    yield "mime base64", base64.encodebytes(dice.randbytes(SIZE * 3 // 4))
    yield "random", dice.randbytes(SIZE)
    yield "png", b"\x89PNG\r\n\x1a\n" + dice.randbytes(SIZE)
    yield "gzip text", gzip.compress(prose[:SIZE])
    text = b"some text that is written otherwise, "
    for name, form in (("\\u0041", b"\\u%04x"), ("%41", b"%%%02X"), ("&#65;", b"&#%d;"), ("=41", b"=%02X")):
        yield name, b"".join(form % byte for byte in text) * (SIZE // len(text) // 4)
    yield "\\n", b"\\n" * (SIZE // 2)
    yield "backslashes", b"\\" * SIZE
    yield "&lt;", html.escape("<>&\"").encode() * (SIZE // 20)
    yield "now and then", (b"word " * 250 + b"%41") * (SIZE // 1253)
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    for name, length in (("runs of 14", 14), ("runs of 18", 18), ("runs of 40", 40)):
        yield name, b" ".join(bytes(dice.choices(letters, k=length)) for _ in range(SIZE // length))
    yield "base64 of 12", b" ".join(base64.b64encode(bytes(dice.choices(letters, k=12))) for _ in range(SIZE // 16))
    yield "one base64", (base64.b64encode(b"the same text") + b" ") * (SIZE // 21)
    yield "hashes", b" ".join(b"%040x" % dice.getrandbits(160) for _ in range(SIZE // 41))
    yield "hex of 12", b" ".join(bytes(dice.choices(letters, k=12)).hex().encode() for _ in range(SIZE // 25))
    yield "utf-16", prose[: SIZE // 2].decode().encode("utf-16-le")
    yield "wide strings", b"\x01\x02\x03\xff" * 128 + b"\xff\xfe".join(
        word.decode().encode("utf-16-le") for word in dice.choices(words, k=SIZE // 14))
    yield "rot13", codecs.encode(prose.decode(), "rot13").encode()
    yield "events", b"data: some words\n\n" * (SIZE // 18)


def tree(body: bytes, declared: str = "") -> Callable[[], float]:
    """Return what reads a body and says how many seconds the slowest piece took."""
    def read() -> float:
        made, slowest = Tree(Deaf(), declared=declared), 0.0
        for at in range(0, len(body), PIECE):
            began = time.thread_time()
            made.feed(body[at : at + PIECE])
            slowest = max(slowest, time.thread_time() - began)
        made.end()
        return slowest

    return read


def timed(work: Callable[[], object]) -> tuple[float, object]:
    began = time.thread_time()
    result = work()
    return time.thread_time() - began, result


def bodies_read(rounds: int, kinds: list[str]) -> None:
    print(f"{'':14} ns/byte  of crc32   step ms")
    for name, body in bodies():
        if kinds and name not in kinds:
            continue
        body = body[:SIZE]
        read, times, bare, steps = tree(body, "text/event-stream" if name == "events" else ""), [], [], []
        for _ in range(rounds):
            bare.append(timed(lambda body=body: zlib.crc32(body))[0])  # type: ignore[misc]
            took, step = timed(read)
            times.append(took)
            steps.append(step)
        cost, crc = statistics.median(times), statistics.median(bare)
        print(f"{name:14} {cost / len(body) * 1e9:7.1f} {cost / crc:9.1f} {min(steps) * 1e3:9.2f}", flush=True)  # type: ignore[type-var]


def opening(rounds: int) -> None:
    """Print what views cost by themselves."""
    for name, text in (("short text", b"a short text"), ("json", b'{"a": 1}'), ("data", b"\0\1\2\3abc"),
                       ("png", b"\x89PNG\r\n\x1a\n" + bytes(600)), ("500 of text", b"words " * 90)):
        def work(text: bytes = text) -> None:
            made = Tree(Deaf())
            for _ in range(OPENED):
                view = made.root.inside("part")
                view.feed(text)
                view.end()

        cost = statistics.median(timed(work)[0] for _ in range(rounds))
        print(f"opening {name:14} {cost / OPENED * 1e6:6.1f} us")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="only these, 'opening' among them")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.kinds != ["opening"]:
        bodies_read(options.rounds, options.kinds)
    if not options.kinds or "opening" in options.kinds:
        opening(options.rounds)


if __name__ == "__main__":
    main()
