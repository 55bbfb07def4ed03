"""Every way to write a text otherwise, alone and in pairs: what is written is found, however the body is cut."""

import itertools
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.addons.views import found_views, heard
from tests.addons.views.encoders import TEXTS

SECRET = b"ghp_aB3dE5gH7jK9mN1pQ3sT5vX7zA9cD1fG3iJ5"


#: A charset of a charset is nobody's.
PAIRS = [pair for pair in itertools.product(TEXTS, repeat=2) if not all(name.startswith("utf-") for name in pair)]


def paths(data, size=1 << 30):
    return [path for path, text in found_views(data, size=size) if SECRET in text]


@pytest.mark.parametrize("name", TEXTS)
def test_a_secret_is_found_with_its_path(name):
    encode, step = TEXTS[name]
    assert f"body > {step}" in paths(encode(b"token: " + SECRET))


@pytest.mark.parametrize(("inner", "outer"), PAIRS)
def test_a_secret_is_found_under_two_of_them(inner, outer):
    data = TEXTS[outer][0](TEXTS[inner][0](b"token: " + SECRET + b" and more"))
    assert paths(data), found_views(data)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("around", [b"", b"plain words " * 900, b"\\u0041 and %41 " * 80])
def test_the_views_are_the_same_however_the_body_is_cut(name, around):
    data = around + b'"' + TEXTS[name][0](b"token: " + SECRET) + b'" ' + around
    whole = sorted(found_views(data))
    for size in (1, 2, 7, 64, 1000) if len(data) < 5000 else (64, 1000):
        assert sorted(found_views(data, size=size)) == whole


def ours(texts):
    """Return the views that readers of texts open; those of protobuf's strings are proved elsewhere."""
    return sorted((path, text) for path, text in texts if " > strings" not in path)


PIECES = st.one_of(
    st.sampled_from([b"\\", b"u", b"00", b"41", b"%", b"&", b"#", b";", b"amp;", b"\\ud83d", b"\\ude00", b"=", b"=3D",
                     b"\r\n", b"\n", b" ", b"+", b"\0", b"a\0", b"]]>", b"]]><![CDATA[", b"\\01", b"x" * 14, b"w " * 600,
                     b"word " * 4000, b"41424344454647484950515253", b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0" * 2]),
    st.tuples(st.sampled_from(sorted(TEXTS)), st.integers(0, 3)).map(lambda pair: TEXTS[pair[0]][0](SECRET * pair[1])),
    st.binary(max_size=40))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, max_size=20).map(b"".join), st.integers(1, 700))
def test_any_mixture_reads_the_same_at_any_cut(data, size):
    whole, cut = heard(data), heard(data, size=size)
    assert ours(cut.texts) == ours(whole.texts)
    assert sorted(cut.reasons) == sorted(whole.reasons)
    assert not [reason for _, reason in whole.reasons if "failed" in reason]


@pytest.mark.parametrize("make", [
    pytest.param(lambda r: b" ".join(b"%040x" % r.getrandbits(160) for _ in range(2000)), id="hashes"),
    pytest.param(lambda r: b'{"id":"%d","n":0.%d}' % (r.getrandbits(60), r.getrandbits(60)) * 2000, id="numbers"),
    pytest.param(lambda r: b" ".join(bytes(r.choices(range(97, 123), k=18)) for _ in range(4000)), id="long words"),
    pytest.param(lambda r: b" ".join(b"getElement%sFromContainer" % bytes(r.choices(range(65, 91), k=3))
                                     for _ in range(4000)), id="names"),
    pytest.param(lambda r: b"/static/assets/app.%08x.chunk.js\n" % r.getrandbits(32) * 2000, id="paths"),
])
def test_what_only_looks_like_a_run_is_left_alone(make):
    data = make(random.Random(7))
    assert sum(len(text) for path, text in found_views(data) if path != "body") < len(data) / 50
