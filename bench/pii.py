"""How well and how fast personal data are found.

    .venv/bin/python -m bench.pii --data FILE     labelled cases (JSON lines, gzip'd): precision and recall by kind
    .venv/bin/python -m bench.pii --files DIR...  ordinary files: false hits by kind
    .venv/bin/python -m bench.pii --speed         MB/s on several texts, beside Secrets on the same bytes
"""

import argparse
import gzip
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from addons.credentials import Secrets
from addons.pii import Pii, known

PIECE = 64 * 1024


def kinds_in(filter_: Pii, data: bytes) -> Counter[str]:
    finder = filter_.scanner()
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    return Counter(f.kind for piece in [*pieces, b""] for f in finder.feed(piece))


def measure(path: Path, verbose: bool) -> None:
    filter_ = Pii(kinds=tuple(known()))
    score: dict[str, Counter[str]] = defaultdict(Counter)
    with gzip.open(path, "rt") as lines:
        for case in map(json.loads, lines):
            found = set(kinds_in(filter_, case["payload"].encode()))
            for kind in case["scope"]:
                hit, due = kind in found, kind in case["expect"]
                score[kind]["TP" if hit and due else "FP" if hit else "FN" if due else "TN"] += 1
                if verbose and hit != due:
                    print("missed" if due else "false ", kind, repr(case["payload"]))
    total: Counter[str] = Counter()
    for kind, n in sorted(score.items()):
        total.update(n)
        print(row(kind, n))
    print(row("all", total))


def row(kind: str, n: Counter[str]) -> str:
    precision = n["TP"] / ((n["TP"] + n["FP"]) or 1)
    recall = n["TP"] / ((n["TP"] + n["FN"]) or 1)
    return f"{kind:32} {sum(n.values()):5} cases  precision {precision:.3f}  recall {recall:.3f}"


def survey(folders: Iterable[Path], verbose: bool) -> None:
    filter_ = Pii()
    size, files, found, blocked = 0, 0, Counter[str](), 0
    for path in (p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()):
        data = path.read_bytes()[: 1 << 20]
        if path.suffix == ".gz":
            data = gzip.decompress(path.read_bytes())[: 1 << 20]
        finder, mine = filter_.scanner(), []
        for piece in [*(data[at : at + PIECE] for at in range(0, len(data), PIECE)), b""]:
            mine += finder.feed(piece)
        found.update(f.kind for f in mine)
        verdict = filter_.weigh(mine, "")
        blocked += bool(verdict and verdict.action == "block")
        size, files = size + len(data), files + 1
        for f in mine if verbose else ():
            if filter_._is_strong(f):
                print(path, f.kind, f.start, repr(data[max(0, f.start - 40) : f.end + 20]))
    print(f"{files} files, {size / 1e6:.1f} MB, {blocked} would be blocked")
    for kind, number in found.most_common():
        print(f"{kind:32} {number:6} {number / size * 1e6:8.3f} a MB")


def texts(size: int = 1 << 20) -> dict[str, bytes]:
    dice = random.Random(7)  # noqa: S311  # the same numbers each time
    digits = lambda n: str(dice.randrange(10 ** (n - 1), 10**n))  # noqa: E731
    words = [
        "the", "of", "lock", "gate", "water", "ship", "canal", "under", "policy", "report", "between", "every",
        "message", "number", "order", "street",
    ]  # fmt: skip
    prose = lambda: " ".join(dice.choice(words) for _ in range(12)) + ".\n"  # noqa: E731
    made: dict[str, Callable[[], str]] = {
        "prose": prose,
        "JSON": lambda: json.dumps({"user": digits(8), "name": dice.choice(words), "at": dice.random(), "t": 1732e9}),
        "solid digits": lambda: digits(dice.randrange(5, 18)) + " ",
        "cards that are none": lambda: "4" + digits(15) + " ",
        "grouped digits": lambda: f"{digits(3)} {digits(3)} {digits(4)} {digits(2)}-{digits(2)} ",
        "dotted digits": lambda: f"{digits(3)}.{digits(3)}.{digits(1)}.{digits(2)} ",
        "words and digits": lambda: f"ssn {digits(9)} vat {digits(11)} passport ",
        "words and zeros": lambda: "ssn 000000000 pesel 00000000000 ",
        "addresses": lambda: f"a{digits(4)}@b{digits(3)}.com ",
        "hexadecimal": lambda: dice.randbytes(16).hex() + " ",
        "plus and digits": lambda: f"+{digits(11)} ",
    }
    return {name: "".join(make() for _ in range(size // len(make()))).encode()[:size] for name, make in made.items()}


def speed(files: Iterable[Path]) -> None:
    given = {str(path): path.read_bytes() for path in files}
    pii, secrets = Pii(), Secrets()
    for name, text in {**texts(), **given}.items():
        rates = []
        for each in (pii, secrets):
            finder, hits, worst, start = each.scanner(), 0, 0.0, time.process_time()
            for at in range(0, len(text), 16384):
                begun = time.process_time()
                hits += len(finder.feed(text[at : at + 16384]))
                worst = max(worst, time.process_time() - begun)
            hits += len(finder.feed(b""))
            rates.append((len(text) / (time.process_time() - start) / 1e6, worst * 1e3, hits))
        (mine, worst, hits), (theirs, _, _) = rates
        print(f"{name:24} {mine:8.1f} MB/s, {mine / theirs:5.2f} of Secrets, 16 KiB in {worst:7.2f} ms, {hits} found")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--files", type=Path, nargs="+", default=[])
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    if given.data:
        measure(given.data, given.verbose)
    if given.speed:
        speed(given.files)
    elif given.files:
        survey(given.files, given.verbose)


if __name__ == "__main__":
    main()
