"""What is said of ordinary files, which hold nothing to be found: `python -m bench.ordinary [--each N] FOLDER...`

    nice .venv/bin/python -m bench.ordinary /usr --each 20
    nice .venv/bin/python -m bench.ordinary /usr/share/doc --pii --forms raw multipart

Files go through the real chain with the filters of the default policy (`--pii` adds personal data, at its defaults), as
they are uploaded: as they are, in a form, compressed, as a string of JSON, a piece out of the middle; and as downloads.
A document takes one form after the other in turn, or all of them (`--all`).
"""

import argparse
import asyncio
import base64
import gzip
import json
import mimetypes
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mitmproxy import connection, http

from bench.ordinary_made import made
from proxy import deadline, dryrun
from proxy.chain import Chain
from proxy.policy import parse
from proxy.registry import build

#: Bytes of a file that is taken; larger ones say little more.
LARGEST = 4 << 20
POLICY = """\
version: 1
filters:
  - {id: classify, use: classify.Http, on_error: allow}
  - {id: secrets, use: secrets.Secrets, deadline: 10000, with: {responses: %(responses)s}}
  - {id: cards, use: cards.Cards, deadline: 10000, with: {responses: %(responses)s}}
"""
PII = "  - {id: personal, use: pii.Pii, deadline: 10000, with: {responses: %(responses)s}}\n"
JSON = "application/json"
BOUNDARY = "----WebKitFormBoundaryAbCdEfGh12345678"

#: Media type, content and Content-Encoding of what is sent, of a file's name, type and content.
Form = Callable[[str, str, bytes], tuple[str, bytes, str]]


def in_form(name: str, kind: str, data: bytes) -> tuple[str, bytes, str]:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    head += f"Content-Type: {kind}\r\n\r\n"
    return f"multipart/form-data; boundary={BOUNDARY}", head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode(), ""


def in_json(name: str, _kind: str, data: bytes) -> tuple[str, bytes, str]:
    """As APIs take texts, and others in base64."""
    try:
        content = data.decode()
    except ValueError:
        content = base64.b64encode(data).decode()
    return JSON, json.dumps({"name": name, "content": content}).encode(), ""


def piece(_name: str, _kind: str, data: bytes) -> tuple[str, bytes, str]:
    """A resumable upload's: it begins anywhere."""
    return "application/octet-stream", data[len(data) // 3 : len(data) * 4 // 5], ""


def part(_name: str, _kind: str, data: bytes) -> tuple[str, bytes, str]:
    """The first piece of such an upload."""
    return "application/octet-stream", data[: len(data) * 2 // 3], ""


FORMS: dict[str, Form] = {
    "raw": lambda _, kind, data: (kind, data, ""),
    "multipart": in_form,
    "gzip": lambda _, kind, data: (kind, gzip.compress(data, 1), "gzip"),
    "json": in_json,
    "download": lambda _, kind, data: (kind, data, ""),
    "unnamed": lambda _name, _kind, data: ("application/octet-stream", data, ""),
}
PIECES: dict[str, Form] = {"piece": piece, "part": part}


@dataclass
class Score:
    documents: int = 0
    size: int = 0
    said: Counter[str] = field(default_factory=Counter)  # documents by what is said of them
    findings: int = 0


def flow_of(form: str, name: str, data: bytes) -> http.HTTPFlow:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    declared, body, coding = {**FORMS, **PIECES}[form](name, kind, data)
    flow = http.HTTPFlow(
        connection.Client(peername=("127.0.0.1", 0), sockname=("127.0.0.1", 0)), connection.Server(address=None)
    )
    download = form == "download"
    flow.request = http.Request.make("GET" if download else "POST", "https://files.example/v1/upload")
    flow.request.headers["host"] = "files.example"
    message: http.Message = flow.request
    if download:
        flow.response = message = http.Response.make(200)
    message.headers["content-type"] = declared
    if coding:
        message.headers["content-encoding"] = coding
    dryrun.fill(message, body)
    return flow


def files(folders: list[Path], each: int, skip: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield so many files of each kind, by the end of their names, drawn from all folders."""
    by_kind: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        for path in [folder] if folder.is_file() else folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and not any(word in str(path) for word in skip):
                by_kind[path.suffix.lower()[:9]].append(path)
    dice = random.Random(5)  # noqa: S311  # the same each time
    for _, paths in sorted(by_kind.items()):
        for path in dice.sample(paths, min(each, len(paths))):
            try:
                if 0 < path.stat().st_size <= LARGEST:
                    yield str(path), path.read_bytes()
            except OSError:
                continue


def said_of(outcome: dryrun.Outcome) -> Iterator[tuple[str, str]]:
    """Yield action and reason of all that is said, each once."""
    seen = set()
    if outcome.verdict != "pass":
        seen.add((outcome.verdict, f"{outcome.rule}: {outcome.reason}"))
    seen |= {(str(each.action), f"{each.rule}: {each.reason}") for each in outcome.alerts}
    yield from sorted(seen)


def survey(
    policy: str, documents: Iterator[tuple[str, bytes]], forms: list[str], *, every: bool, verbose: bool
) -> None:
    chains = {
        way: Chain(build(parse((policy % {"responses": way}).encode(), Path("bench")), Path()))
        for way in ("true", "false")
    }
    scores: dict[str, Score] = defaultdict(Score)
    for number, (path, data) in enumerate(documents):
        for form in forms if every else [forms[number % len(forms)]]:
            flow = flow_of(form, Path(path).name, data)
            chain = chains["true" if form == "download" else "false"]
            outcome = dryrun.outcome(asyncio.run(dryrun.through(chain, flow)))
            score = scores[form]
            score.documents, score.size, score.findings = (
                score.documents + 1,
                score.size + len(data),
                score.findings + len(outcome.findings),
            )
            for action, reason in said_of(outcome):
                score.said[f"{action} {'unscannable' if 'unscannable' in reason else reason.partition(':')[0]}"] += 1
                if verbose or action != "alert" or (form == "download" and "unscannable" in reason):
                    shown = [(f.kind, f.where, f.start, f.sample) for f in outcome.findings[:3]]
                    print(
                        f"{action} [{form}] {path}: {reason}", shown if "unscannable" not in reason else "", flush=True
                    )
        if number % 200 == 199:
            print(f"... {number + 1} documents", file=sys.stderr)
    report(scores)


def report(scores: dict[str, Score]) -> None:
    total = Score()
    for form, score in [*scores.items(), ("all", total)]:
        if score is not total:
            total.documents, total.size = total.documents + score.documents, total.size + score.size
            total.findings += score.findings
            total.said.update(score.said)
        rate = score.findings / max(score.size / 1e6, 1e-6)
        said = ", ".join(f"{name} {count}" for name, count in sorted(score.said.items())) or "nothing"
        print(f"{form:10} {score.documents:6} documents {score.size / 1e6:8.1f} MB, {rate:.3f} findings a MB: {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--each", type=int, default=20, help="files of each kind")
    parser.add_argument("--pii", action="store_true", help="with personal data")
    parser.add_argument("--forms", nargs="*", default=list(FORMS), choices=[*FORMS, *PIECES])
    parser.add_argument("--all", action="store_true", help="each document in all forms")
    parser.add_argument("--skip", nargs="*", default=["/proc/", "/sys/", "/dev/"], help="parts of paths to leave out")
    parser.add_argument("--made", action="store_true", help="documents made here, of kinds that are seldom at hand")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    deadline.prepare()
    documents = list(made()) if given.made else files(given.folders, given.each, given.skip)
    survey(POLICY + PII * given.pii, iter(documents), given.forms, every=given.all or given.made, verbose=given.verbose)
    deadline.rest()


if __name__ == "__main__":
    main()
