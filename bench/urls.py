"""URL rules at the size of the lists that browsers have: decisions a second, loading, memory.

    python bench/urls.py [--rules N] [--list FILE]

Rules are made up in the shapes and proportions of EasyList and a hosts file, unless a list is named.  Requests are to
2 000 hosts from 200 pages, each URL another one, of which one in ten meets a rule's host.  `engine` is the adblock
library alone with the same requests, so that the ratio says what our layers cost.
"""

import argparse
import random
import string
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from addons import keeping
from addons.requestkind import third_party
from addons.urlmatch import Asked
from addons.urls import Rules

ENDS = ("com", "net", "org", "io", "xyz", "info", "ru", "de", "co.uk")
#: Shapes of rules, and how many of a hundred have them.
SHAPES = (
    (36, "||{a}^"),
    (14, "||{a}^$third-party"),
    (3, "||{a}^$image"),
    (8, "/{w}/{w}.js"),
    (6, "/{w}_{w}*$image,domain={b}"),
    (8, "||{a}/{w}/$script,domain={b}"),
    (4, "@@||{a}/{w}.js$script,domain={b}"),
    (0.3, "/^https?:\\/\\/{w}\\d\\./$script,domain={b}"),
    (0.4, "$script,third-party,denyallow={a},domain={b}"),
    (0.4, "||{w}.*^$domain={w}.*"),
    (18, "{b}##.{w}"),
    (1.9, "-{w}-{w}."),
)


def word(source: random.Random) -> str:
    return "".join(source.choices(string.ascii_lowercase, k=source.randint(4, 10)))


def name(source: random.Random) -> str:
    return f"{word(source)}.{source.choice(ENDS)}"


def made_up(count: int, source: random.Random) -> list[str]:
    shapes = source.choices([shape for _, shape in SHAPES], [weight for weight, _ in SHAPES], k=count)
    return [_filled(shape, source) for shape in shapes]


def _filled(shape: str, source: random.Random) -> str:
    while "{w}" in shape:
        shape = shape.replace("{w}", word(source), 1)
    return shape.replace("{a}", name(source)).replace("{b}", name(source))


def requests(rules: list[str], count: int, source: random.Random) -> list[Asked]:
    blocked = [rule[2:].partition("^")[0] for rule in rules if rule.startswith("||") and "^" in rule]
    hosts = [source.choice(blocked) if blocked and at % 10 == 0 else name(source) for at in range(2000)]
    pages = [name(source) for _ in range(200)]
    made = []
    for _ in range(count):
        host, page = source.choice(hosts), source.choice(pages)
        kind = source.choice(("script", "image", "xmlhttprequest", "document"))
        url = f"https://{host}/{word(source)}/{word(source)}.js?v={source.randint(1, 10**9)}"
        made.append(Asked(url, host, page, kind, third_party(b"", host, page, kind), "GET", f"https://{page}/"))
    return made


def resident() -> int:
    """Return KiB, or 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4
    except OSError:
        return 0


def timed(what: str, count: int, call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    rate = count / (time.perf_counter() - start)
    print(f"{what:34}{rate:12,.0f} a second")
    return rate


def hold(load: object) -> tuple[float, float]:
    """Load in a thread; return seconds, and the longest time that another thread did not run."""
    done, worst, last = threading.Event(), 0.0, time.perf_counter()
    start = last
    thread = threading.Thread(target=lambda: (load(), done.set()))  # type: ignore[operator]
    thread.start()
    while not done.is_set():
        time.sleep(0.0005)
        now = time.perf_counter()
        worst, last = max(worst, now - last), now
    thread.join()
    return time.perf_counter() - start, worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=int, default=150_000)
    parser.add_argument("--list", type=Path)
    parser.add_argument("--requests", type=int, default=50_000)
    arguments = parser.parse_args()
    source = random.Random(1)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        keeping.use(Path(folder))
        file = arguments.list or Path(folder, "made-up.txt")
        if not arguments.list:
            file.write_text("\n".join(made_up(arguments.rules, source)))
        before, start = resident(), time.perf_counter()
        rules = Rules(files=(file,))
        print(f"first start {time.perf_counter() - start:.2f} s, {(resident() - before) // 1024} MiB")
        print("", *rules.notes, sep="\n  ")
        asked = requests(file.read_text(encoding="utf-8", errors="replace").splitlines(), arguments.requests, source)
        engine = rules._set.engine
        for _ in range(2):      # the first round is cold
            alone = timed("engine", len(asked), lambda: [
                engine.check_network_urls_with_hostnames(*each[:5]) for each in asked])
            whole = timed("with our layers, each URL new", len(asked), lambda: [rules._judge(each) for each in asked])
        print(f"  ratio to the engine {whole / alone:.2f}")
        for each in asked[:5000]:
            rules.judge(each)
        timed("the same URL again", 5000, lambda: [rules.judge(each) for each in asked[:5000]])
        seconds, worst = hold(lambda: Rules(files=(file,)))
        print(f"reload, lists unchanged   {seconds * 1000:6.0f} ms, others waited at most {worst * 1000:.0f} ms")
        with file.open("a") as more:
            more.write("\n||one-more.example^\n")
        seconds, worst = hold(lambda: Rules(files=(file,)))
        print(f"reload, a list changed    {seconds * 1000:6.0f} ms, others waited at most {worst * 1000:.0f} ms")


if __name__ == "__main__":
    main()
