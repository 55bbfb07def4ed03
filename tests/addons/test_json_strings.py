"""Strings of JSON with their paths, however the text is cut."""

import json
import random
import time
from typing import Any

import pytest

from addons.json_strings import Sink, Strings
from tests.addons.conftest import SIZES, cut

Found = list[tuple[str, str, bytes]]
LEAVES = frozenset({"text", "content"})


def strings(data: bytes, size: int, leaves: frozenset[str] = LEAVES, whole: frozenset[str] = frozenset()) -> Found:
    found: Found = []

    def opened(path: str, _leaf: str, role: str) -> Sink:
        pieces: list[bytes] = []
        return lambda piece: pieces.append(piece) if piece else found.append((path, role, b"".join(pieces)))

    reader = Strings(opened, leaves, whole)
    for chunk in cut(data, size):
        reader.feed(chunk)
    reader.end()
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('{"a":1,"text":"b"}', [("text", "", b"b")], id="one"),
        pytest.param('{"m":[{"role":"user","content":"x"},{"content":["y","z"]}]}',
                     [("m[0].content", "user", b"x"), ("m[1].content[0]", "", b"y"), ("m[1].content[1]", "", b"z")],
                     id="lists and roles"),
        pytest.param('{"text":"a\\n\\"\\\\\\u00e9\\ud83d\\ude00\\/"}', [("text", "", 'a\n"\\é😀/'.encode())], id="escapes"),
        pytest.param('{"text":"\\\\u0041\\\\"}', [("text", "", b"\\u0041\\")], id="escaped backslashes"),
        pytest.param('{"n":[1,2,[3,{"text":"deep"}],"no"]}', [("n[2][1].text", "", b"deep")], id="after numbers"),
        pytest.param('{"input":{"a":{"b":"every"},"c":["one"]}}',
                     [("input.a.b", "", b"every"), ("input.c[0]", "", b"one")], id="whole"),
        pytest.param('{"tools":[{"parameters":{"text":"no","x":["]"]},"text":"yes"}]}', [("tools[0].text", "", b"yes")],
                     id="schemas are passed over"),
        pytest.param('{"x":"\\"text\\":","text":""}', [("text", "", b"")], id="quotes in strings"),
        pytest.param('{"text":"cut', [("text", "", b"cut")], id="no end"),
        pytest.param('{"text": "a" , "t" : {} , "text" :\n"b"}', [("text", "", b"a"), ("text", "", b"b")], id="spaces"),
        pytest.param('[{"text":"a"},{"text":"b"}]', [("[0].text", "", b"a"), ("[1].text", "", b"b")], id="list outside"),
    ],
)  # fmt: skip
def test_strings(text: str, expected: Found, size: int) -> None:
    assert strings(text.encode(), size, whole=frozenset({"input"})) == expected


def _made(source: random.Random, depth: int = 0) -> Any:
    kind = source.random()
    if depth > 4 or kind < 0.4:
        return source.choice([1, True, None, "é\"\\\n", "plain", "\U0001f600", "", -1.5e3])
    if kind < 0.7:
        return {source.choice(["text", "a", "content", 'q"']): _made(source, depth + 1) for _ in range(3)}
    return [_made(source, depth + 1) for _ in range(3)]


def _expected(value: Any, path: str = "", leaf: str = "") -> list[tuple[str, bytes]]:
    if isinstance(value, str):
        return [(path, value.encode())] if leaf in LEAVES else []
    if isinstance(value, dict):
        return [each for key, inner in value.items() for each in _expected(inner, f"{path}.{key}" if path else key, key)]
    if isinstance(value, list):
        return [each for i, inner in enumerate(value) for each in _expected(inner, f"{path}[{i}]", leaf)]
    return []


@pytest.mark.parametrize("seed", range(40))
def test_it_reads_what_json_reads(seed: int) -> None:
    source = random.Random(seed)
    value = _made(source)
    for ascii_only in (True, False):
        data = json.dumps(value, ensure_ascii=ascii_only, indent=seed % 3 or None).encode()
        for size in (1, 3, 1000):
            assert [(path, text) for path, _, text in strings(data, size)] == _expected(value)


@pytest.mark.parametrize("unit", [b"[", b"{", b'"",', b'{"text":', b"\\", b'"\\', b"]", b'"text":"', b'{"parameters":[[', b","])
def test_hostile_text_is_given_up_soon(unit: bytes) -> None:
    data = b'{"m":[' + unit * (200_000 // len(unit))
    start = time.thread_time()
    strings(data, 16384)
    assert time.thread_time() - start < 0.5
