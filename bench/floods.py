"""How fast the leak filters scan bodies of an adversary who knows their words: `python -m bench.floods [KIND ...]`.

MB/s of processor time of the whole filter (its finder, and what weighs its findings) on a body that is nothing but
what the filter looks at most closely, medians, beside the goal, and the longest that a piece of 16 KiB took, in
milliseconds.  `--beside FOLDER` measures another checkout on the same bodies in turn, and prints new to old: trust
that ratio.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mitmproxy.test import tflow

#: What an adversary's body shall be scanned at, on one core.
GOAL = 15.0
SIZE, PIECE = 1 << 19, 16 * 1024


def bodies() -> Iterator[tuple[str, str, bytes]]:
    """Yield filters, names and bodies."""
    for name, body in labels():
        yield "pii", name, body
    for name, body in values():
        yield "pii", name, body
    for name, body in rules():
        yield "secrets", name, body
    dice = random.Random(3)  # noqa: S311
    yield "keywords", "terms", b" ".join(dice.choices(TERMS, k=SIZE // 5))
    yield "keywords", "one term", TERMS[0] * (SIZE // 7)
    yield "keywords", "halves of terms", b" ".join(dice.choices(b" ".join(TERMS).split(), k=SIZE // 5))
    yield "cards", "cards that are none", b"".join(b"4%015d " % dice.randrange(10**15) for _ in range(SIZE // 16))
    yield "cards", "cards", b"4111 1111 1111 1111 " * (SIZE // 20)


TERMS = [b"falcon ", b"project falcon", b"top secret", b"merger", b"internal only", b"nda", b"confidential"]


def labels() -> Iterator[tuple[str, bytes]]:
    """Words that name kinds of personal data, alone and before numbers."""
    from addons.identifiers import load

    dice = random.Random(1)  # noqa: S311
    words = sorted({word.encode() for each in load().values() for word in each.words})
    some = [b"ssn", b"passport no:", b"vat", b"tax id", b"pesel", b"iban", b"phone", b"social security"]

    def digits(least: int, most: int) -> bytes:
        return b"%d" % dice.randrange(10**least, 10**most)

    yield "one label", b"ssn " * (SIZE // 4)
    yield "some labels", b" ".join(dice.choices(some, k=SIZE // 6))
    yield "all labels", b" ".join(dice.choices(words, k=SIZE // 6))
    yield "a label, zeros", b"ssn 000000000 pesel 00000000000 " * (SIZE // 32)
    yield "a label, a number", b"".join(dice.choice(some) + b" " + digits(8, 12) + b" " for _ in range(SIZE // 12))
    yield "all labels, numbers", b"".join(dice.choice(words) + b" " + digits(8, 12) + b" " for _ in range(SIZE // 12))
    rows = (b" ".join(digits(0, 2) for _ in range(9)) for _ in range(SIZE // 22))
    yield "a label, many digits", b"".join(b"vat " + row + b" " for row in rows)
    yield "labels, one digit", b"".join(dice.choice(some) + b" 1 " for _ in range(SIZE // 8))
    yield "labels, capitals", b"".join(dice.choice(some) + b" SWIFTBIC " for _ in range(SIZE // 12))


def values() -> Iterator[tuple[str, bytes]]:
    """What looks like personal data, and mostly is none."""
    from bench.pii import texts

    yield from ((name, text) for name, text in texts(SIZE).items() if name not in ("prose", "JSON"))
    yield "none at all", b"a@b.c1 " * (SIZE // 7)
    yield "IBANs that are none", b"DE89370400440532013001 " * (SIZE // 23)
    yield "::", b"a::b 1:2::3 " * (SIZE // 12)
    yield "dots", b"1.2.3.4.5 v1.2.3.4 " * (SIZE // 19)


def rules() -> Iterator[tuple[str, bytes]]:
    """Words that secrets stand behind, and what looks like secrets."""
    from bench.filter_scan import bodies

    yield from ((name, text[:SIZE]) for name, text in bodies() if name not in ("source", "json", "base64", "random"))


def filters() -> dict[str, Callable[[], Callable[[bytes], object]]]:
    """Return what opens each filter for a body."""
    from addons.cards import Cards
    from addons.credentials import Secrets
    from addons.keywords import Keywords
    from addons.pii import Pii

    made = {"pii": Pii(), "secrets": Secrets(), "cards": Cards(action="alert"),
            "keywords": Keywords(terms=tuple(term.decode().strip() for term in TERMS), threshold=50)}  # fmt: skip

    def opened(name: str) -> Callable[[bytes], object]:
        scan = made[name].requestbody(tflow.tflow())
        assert scan
        return scan

    return {name: lambda name=name: opened(name) for name in made}  # type: ignore[misc]


def measured(scan: Callable[[bytes], object], body: bytes) -> tuple[float, float]:
    """Return MB/s, and the milliseconds of the slowest piece."""
    worst, began = 0.0, time.process_time()
    for at in range(0, len(body), PIECE):
        before = time.process_time()
        scan(body[at : at + PIECE])
        worst = max(worst, time.process_time() - before)
    scan(b"")
    return len(body) / (time.process_time() - began) / 1e6, worst * 1e3


def serve() -> None:
    """Answer names of bodies, each with what they took: the other side of `--beside`."""
    known, opened = {f"{owner}: {name}": (owner, body) for owner, name, body in bodies()}, filters()
    for line in sys.stdin:
        owner, body = known[line.strip()]
        print(json.dumps(measured(opened[owner](), body)), flush=True)


class Checkout:
    """A process that measures the filters of a checkout."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(folder)}
        command = [sys.executable, __file__, "--serve"]
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measured(self, name: str) -> tuple[float, float]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        rate, worst = json.loads(self._process.stdout.readline())
        return rate, worst

    def end(self) -> None:
        self._process.communicate()


def compare(checkouts: list[Checkout], wanted: list[str], rounds: int) -> None:
    print(f"{'':32} {'MB/s':>7} {'goal':>5} {'16 KiB, ms':>11}" + "  to the other" * (len(checkouts) - 1))
    for owner, kind, _ in bodies():
        name = f"{owner}: {kind}"
        if wanted and not any(each in name for each in wanted):
            continue
        said = [[each.measured(name) for each in checkouts] for _ in range(rounds)]
        rate, worst = statistics.median(each[0][0] for each in said), statistics.median(each[0][1] for each in said)
        ratio = [statistics.median(each[0][0] / each[1][0] for each in said)] if len(checkouts) > 1 else []
        print(f"{name:32} {rate:7.2f} {GOAL:5.0f} {worst:11.2f}" + "".join(f"  {r:6.2f}" for r in ratio), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="only bodies whose filter and name have this in them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="another checkout, to be compared with")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    folders = [Path(__file__).parents[1], *([options.beside] if options.beside else [])]
    checkouts = [Checkout(folder.absolute()) for folder in folders]
    compare(checkouts, options.kinds, options.rounds)
    for each in checkouts:
        each.end()


if __name__ == "__main__":
    main()
