"""Runs of base64, base32 and hexadecimal digits."""

import base64
import gzip
import random

import pytest

from tests.addons.views import found_views, heard


def inside(data, step):
    return b"|".join(text for path, text in found_views(data) if path == f"body > {step}")


@pytest.mark.parametrize("text", [b"078-05-1120", b"4111 1111 1111 1111", b"jane.doe@site.example", b"user:hunter2pass",
                                  b'{"alg":"HS256"}', b"line\nline\nline\n"])
@pytest.mark.parametrize("frame", [b"%s", b'"%s"', b"Authorization: Basic %s\r\n", b"key=%s&x=1", b"x_%s", b"/path/%s/", b"a.%s.b"])
def test_short_texts_are_found(text, frame):
    assert text in inside(frame % base64.b64encode(text), "base64")


@pytest.mark.parametrize("text", ["Grüße aus Zürich", "секретно и важно", "機密文件和密碼"])
def test_texts_in_other_languages(text):
    assert text.encode() in inside(b'"%s"' % base64.b64encode(text.encode()), "base64")


@pytest.mark.parametrize("glued", [b"", b"x", b"xy", b"xyz", b"wxyz", b"Prefix12345"])
def test_what_is_glued_to_the_front_does_not_hide_it(glued):
    assert b"a text to be found here" in inside(glued + base64.b64encode(b"a text to be found here"), "base64")
    assert b"a text to be found here" in inside(glued + base64.b64encode(b"a text to be found here" * 300), "base64")


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\n ", b"\r\n\t"])
@pytest.mark.parametrize("width", [60, 64, 76])
@pytest.mark.parametrize("size", [200, 20_000])
def test_lines_are_one_run(end, width, size):
    text = (b"a text that is long and goes on " * 1000)[:size]
    run = base64.b64encode(text)
    lines = end.join(run[at : at + width] for at in range(0, len(run), width))
    assert inside(b"Content:\n\n" + lines + b"\n\nend", "base64").startswith(text)


def test_lines_that_are_no_base64_are_no_failure():
    for run in (b"m022IyFOUM66F0sDEBHkmSMCthVIyX2h\ni", b"d41d8cd98f00b204e9800998ecf8427e\r\n1", b"A2345672345672345672345672345672\nB"):
        assert not heard(b"x " + run + b" y").reasons


def test_values_of_several_runs_do_not_touch():
    data = base64.b64encode(b"a first password") + b" " + base64.b64encode(b"another password")
    assert inside(data, "base64") == b"a first password\0another password"


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("size", [11, 12, 13, 14, 3000, 3001, 3002])
def test_every_length_to_its_last_byte(size, padded):
    text = (b"0123456789 abcdef " * 200)[:size]
    run = base64.b64encode(text)
    assert inside(run if padded else run.rstrip(b"="), "base64") == text


@pytest.mark.parametrize("size", [40, 5000])
def test_containers_are_opened(size):
    data = gzip.compress((b"the secret is in here " * 400)[:size], 1)
    views = dict(found_views(b'{"z": "' + base64.b64encode(data) + b'"}'))
    assert any(b"the secret is in here" in text for path, text in views.items() if path.startswith("body > base64 > "))
    views = dict(found_views(b"z = " + data.hex().encode()))
    assert any(b"the secret is in here" in text for path, text in views.items() if path.startswith("body > hex > "))


def test_hashes_and_numbers_are_not_decoded():
    data = b" ".join((b"d41d8cd98f00b204e9800998ecf8427e", b"20240517123456789012", b"da39a3ee5e6b4b0d3255bfef95601890afd80709",
                      b"6ba7b810-9dad-11d1-80b4-00c04fd430c8", b"0x00000000deadbeef00000000"))
    assert found_views(data)[1:] == []


def test_what_is_long_and_not_text_is_decoded_too():
    data = random.Random(3).randbytes(9000)
    assert dict(heard(base64.b64encode(data)).texts)["body > base64"] == data
