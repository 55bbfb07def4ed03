"""`lockgate filters new`: a filter to begin with, and its test, both of which run as they are."""

import keyword
import re
from pathlib import Path

from proxy.options import UsageError

FILTER = '''"""Blocks uploads that hold a word."""

from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy import http

from lockgate import Verdict, block


@dataclass
class {name}:
    """Blocks request bodies that hold `word`.  The fields are the options that a policy sets under `with:`."""

    word: str

    def __post_init__(self) -> None:
        if not self.word:
            raise ValueError("word: empty")     # becomes a line of `lockgate check`

    def requestheaders(self, flow: http.HTTPFlow) -> Verdict | None:
        """Nothing has left yet: decide here what URL and headers tell.  None is no opinion."""
        return block(f"the URL holds {{self.word!r}}") if self.word in flow.request.path else None

    def requestbody(self, flow: http.HTTPFlow) -> Callable[[bytes], Verdict | None]:
        """Return a scanner for this body: called with each decoded piece before it leaves, then with b""."""
        word, tail = self.word.encode(), b""

        def scan(piece: bytes) -> Verdict | None:
            nonlocal tail
            text = tail + piece                 # the network may cut the word in two
            tail = text[-len(word) + 1 :] if len(word) > 1 else b""
            return block(f"the body holds {{self.word!r}}") if word in text else None

        return scan
'''

TEST = '''"""The word is found wherever it is, and however the body is cut: `judged` sees to that."""

import pytest
from {module} import {name}

pytest_plugins = ["proxy.fixtures"]


@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        ({{"url": "https://site.example/fine"}}, "pass"),
        ({{"url": "https://site.example/secret"}}, "block"),
        ({{"body": b"nothing to see"}}, "pass"),
        ({{"body": b"x" * 3000 + b"secret" + b"x" * 3000}}, "block"),
    ],
)
def test_the_word(judged, exchange, verdict):
    assert judged({name}("secret"), **exchange).verdict == verdict


def test_compressed(judged, encoded):
    assert judged({name}("secret"), **encoded(b"a secret")).verdict == "block"


def test_no_word():
    with pytest.raises(ValueError, match="empty"):
        {name}("")
'''

POLICY = """  - id: {module}
    use: ./{module}.py:{name}
    with: {{word: secret}}
"""


def write(text: str, folder: Path) -> tuple[Path, Path, str]:
    """Write the filter and its test into the folder; return both, and the lines for a policy.

    `text` is the name of the class (`BigUploads`) or of the file (`big_uploads`).  Raises UsageError, and overwrites
    nothing.
    """
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", text)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,60}", text) or not words or keyword.iskeyword(text.lower()):
        raise UsageError(f"{text!r} is no name for a filter: use letters, digits and _, as in big_uploads")
    name, module = "".join(word[:1].upper() + word[1:] for word in words), "_".join(words).lower()
    filter, test = folder / f"{module}.py", folder / f"test_{module}.py"
    if taken := [path.name for path in (filter, test) if path.exists()]:
        raise UsageError(f"{' and '.join(taken)}: there already, and left as it is; choose another name")
    try:
        for path, content in ((filter, FILTER), (test, TEST)):
            with path.open("x", encoding="utf-8") as file:
                file.write(content.format(name=name, module=module))
    except OSError as error:
        raise UsageError(str(error)) from None
    return filter, test, POLICY.format(name=name, module=module)
