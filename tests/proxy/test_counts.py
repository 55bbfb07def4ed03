"""A value that is in several views of a message, as it stands and without its escapes, counts once."""

import base64
import json

import pytest

from addons.cards import Cards
from addons.keywords import Keywords
from addons.pii import Pii

pytest_plugins = ["proxy.fixtures"]
FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}
ONE, TWO = "4111 1111 1111 1111", "5555 5555 5555 4444"
MAILS = [f"person{n}@firm.example.com" for n in range(9)]
EMAIL = {"kinds": ("email",), "minimum": 2}


def escaped(*texts: str) -> bytes:
    return json.dumps({"a": 'she said "so"\n' + "\n".join(texts)}).encode()


CASES = {
    "in JSON": (Cards(minimum=2), JSON, escaped(ONE), "pass"),
    "two in JSON": (Cards(minimum=2), JSON, escaped(ONE, TWO), "block"),
    "the same twice": (Cards(minimum=2), JSON, escaped(ONE, ONE), "block"),
    "in a form": (Cards(minimum=2), FORM, b"a=4111%201111%201111%201111&b=%20c", "pass"),
    "with plus signs": (Cards(minimum=2), FORM, b"a=4111+1111+1111+1111&b=%20c", "pass"),
    "two in a form": (Cards(minimum=2), FORM, b"a=4111+1111+1111+1111&b=5555%205555%205555%204444", "block"),
    "in base64 in JSON": (Cards(minimum=2), JSON, escaped(base64.b64encode(f"card: {ONE}, and more".encode()).decode()), "pass"),
    "an address": (Pii(**EMAIL), JSON, escaped(MAILS[0]), "pass"),
    "an address in a form": (Pii(**EMAIL), FORM, b"mail=person%40firm.example.com&x=%20", "pass"),
    "two addresses": (Pii(**EMAIL), JSON, escaped(*MAILS[:2]), "block"),
    "addresses that begin alike, in two parts": (Pii(kinds=("email",), minimum=6), {"content-type": "multipart/form-data; boundary=B"},
        b"".join(b"--B\r\nContent-Disposition: form-data; name=x\r\n\r\n" + "\n".join(part).encode() + b"\r\n"
                 for part in (MAILS[:4], MAILS[4:8])) + b"--B--\r\n", "block"),
    "a word": (Keywords(terms=("falcon",), threshold=2), JSON, escaped("falcon"), "pass"),
    "two words": (Keywords(terms=("falcon",), threshold=2), JSON, escaped("falcon", "falcon"), "block"),
    "a word in a form": (Keywords(terms=("red falcon",), threshold=2), FORM, b"a=red+falcon&b=%20c", "pass"),
    "an escaped word": (Keywords(terms=("red falcon",), threshold=2), FORM, b"a=red%20falcon&b=%20c", "pass"),
}


@pytest.mark.parametrize("name", CASES)
def test_counts(judged, name):
    filter_, headers, body, verdict = CASES[name]
    said = judged(filter_, body=body, headers=headers, chunks=(1, 7, 1000))
    assert said.verdict == verdict
