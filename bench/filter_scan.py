"""The section `scan` of bench.filters: how fast secrets are looked for, and what is found."""

import base64
import gzip
import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pyperscan

from addons.credentials import Secrets
from addons.known_secrets import ours
from addons.rule_packs import read
from addons.scan import Keywords, PatternSet, shortest

SIZE, CHUNK, ROUNDS = 1 << 20, 65536, 3
#: `re` alone is thousands of times slower.
SIZE_OF_RE = 1 << 13
#: Cases whose label says that they are no measure of a scanner.
UNFIT = ("weak", "detector_local", "path_dependent", "ambiguous", "noisy", "composite")
#: Bytes of ordinary files that are read.
DOCUMENTS = 32 << 20


def bodies() -> Iterator[tuple[str, bytes]]:
    """Ordinary bodies, then those of an adversary who knows the rules."""
    dice = random.Random(1)  # noqa: S311
    rows = [{"id": n, "name": "the quick brown fox", "token_count": n, "url": f"https://a.example/{n}"}
            for n in range(15_000)]  # fmt: skip
    sources = sorted(Path(re.__file__).parent.parent.glob("*.py"))
    yield "source", b"\n".join(path.read_bytes() for path in sources)[:SIZE]
    yield "json", json.dumps(rows).encode()[:SIZE]
    yield "base64", base64.b64encode(dice.randbytes(SIZE * 3 // 4))
    yield "random", dice.randbytes(SIZE)
    for text in (b"key=key=", b"secret=", b'password="', b'password="P4ssword"\n', b"://a:b", b"A", b"eyJ", b"."):
        yield repr(text.decode())[:20], text * (SIZE // len(text))
    words = [word for rule in ours() for word in rule.pattern.keywords]
    pieces = (dice.choice(words) + dice.choice([b" ", b"=", b'"', b""]) for _ in range(SIZE // 8))
    yield "keywords", b"".join(pieces)[:SIZE]
    soup = [b"secret", b"token", b"key", b"api", b"=", b'"', b": ", b"a1b2c3d4e5f6", b"-", b" ", b"password"]
    yield "soup", b"".join(dice.choices(soup, k=SIZE // 5))[:SIZE]
    keys = [b"AKIAQYLPMN5HFIQR7XYA", b"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", b'password = "hunter2Kx9vQw7zLm3"']
    yield "dense keys", b"\n".join(dice.choices(keys, k=SIZE // 30))[:SIZE]


def speed() -> None:
    """Print MB/s of the engine alone, of ours, of its fallback, and of `re` rule by rule."""
    patterns = [rule.pattern for rule in ours()]
    flag = pyperscan.Flag.PREFILTER
    database = pyperscan.StreamDatabase(
        *(pyperscan.Pattern(p.trigger or shortest(p.regex), flag, tag=i) for i, p in enumerate(patterns))
    )
    sets = PatternSet(patterns), PatternSet(patterns, Keywords)
    expressions = [re.compile(pattern.regex) for pattern in patterns]
    go_on = pyperscan.Scan.Continue

    def engine(body: bytes) -> None:
        scanner = database.build(None, lambda *_: go_on)
        for at in range(0, len(body), CHUNK):
            scanner.scan(body[at : at + CHUNK])

    def whole(patterns: PatternSet, body: bytes) -> None:
        stream = patterns.stream()
        for at in range(0, len(body), CHUNK):
            stream.feed(body[at : at + CHUNK])
        stream.feed(b"")

    def alone(body: bytes) -> None:
        for expression in expressions:
            for _ in expression.finditer(body[:SIZE_OF_RE]):
                pass

    print(f"{len(patterns)} rules; MB/s: engine alone, ours, ratio, fallback, re rule by rule")
    for name, body in bodies():
        raw, own = rate(engine, body), rate(lambda body: whole(sets[0], body), body)
        fallback = rate(lambda body: whole(sets[1], body), body[: SIZE // 8], 1)
        slow = rate(alone, body[:SIZE_OF_RE], 1)
        print(f"  {name:22} {raw:7.0f} {own:8.1f} {own / raw:6.2f} {fallback:8.1f} {slow:8.3f}")


def rate(work: Callable[[bytes], None], body: bytes, rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work(body)
        times.append(time.process_time() - start)
    return len(body) / 1e6 / max(statistics.median(times), 1e-6)


def labelled(folder: Path, pack: Path | None) -> None:
    """Print recall and precision for each file of cases: ours, and a plain use of a pack's expressions."""
    finders = {"lockgate": finding(Secrets())}
    if pack:
        finders["the pack, with us"] = finding(Secrets(packs=(pack.absolute(),), own_rules=False))
        finders["its expressions, in re"] = plain(pack)
    for path in sorted(folder.glob("secrets_*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            cases = [case for case in map(json.loads, lines) if not any(case.get(flag) for flag in UNFIT)]
        print(f"{path.name}: {len(cases)} cases")
        for name, finds in finders.items():
            counts = Counter((bool(case["expect"]), finds(payload(case))) for case in cases)
            right, missed, wrong = counts[True, True], counts[True, False], counts[False, True]
            print(f"  {name:24} recall {right / (right + missed):.3f}  precision {right / max(1, right + wrong):.3f}")


def payload(case: dict[str, str]) -> bytes:
    return case["payload"].encode() if "payload" in case else base64.b64decode(case["payload_b64"])


def finding(secrets: Secrets) -> Callable[[bytes], bool]:
    def finds(text: bytes) -> bool:
        finder = secrets.scanner()
        return bool(finder.feed(text) + finder.feed(b""))

    return finds


def plain(pack: Path) -> Callable[[bytes], bool]:
    """Say whether any expression of a pack matches: no keywords, no entropy, no allow lists."""
    expressions = [re.compile(rule.pattern.regex) for rule in read(pack.absolute()).rules]
    return lambda text: any(expression.search(text) for expression in expressions)


def ordinary(folder: Path) -> None:
    """Print what is found in files that hold no secrets, and how often per MB."""
    secrets, found, size, files, hit = Secrets(), Counter[str](), 0, 0, 0
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    random.Random(5).shuffle(paths)  # noqa: S311
    for path in paths:
        if size >= DOCUMENTS:
            break
        try:
            text = path.read_bytes()
            text = gzip.decompress(text) if path.suffix == ".gz" else text
        except (OSError, EOFError):
            continue
        finder = secrets.scanner()
        rules = [finding.rule for finding in finder.feed(text) + finder.feed(b"")]
        found.update(rules)
        size, files, hit = size + len(text), files + 1, hit + bool(rules)
    rate = sum(found.values()) / max(size / 1e6, 1e-6)
    print(f"{folder}: {files} files, {size / 1e6:.1f} MB; {hit} with hits, {rate:.3f} a MB", dict(found.most_common(6)))
