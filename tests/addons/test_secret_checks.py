"""What people choose as passwords, and what stands in their place in code, translations and documents."""

import base64

import pytest

from addons.secret_checks import in_base64, is_bare_password, is_basic, is_password, is_random


@pytest.mark.parametrize("value", [b"Summer2024!", b"super$ecret", b"hunter2", b"P@ssw0rd", b"x9#kLq", b"Tr0ub4dor&3", b"a-B3_c"])
def test_passwords(value: bytes) -> None:
    assert is_password(value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"Passwort", id="a word"),
        pytest.param(b"Required!", id="a word and a mark"),
        pytest.param(b"newPassword2", id="a name"),
        pytest.param(b"ssh2_auth_pubkey", id="a function"),
        pytest.param(b"get_password()", id="a call"),
        pytest.param(b"os.environ['X1']", id="the environment"),
        pytest.param(b"self.token1", id="an attribute"),
        pytest.param(b"${DB_PASSWORD1}", id="a variable"),
        pytest.param(b"$DB_PASSWORD", id="a variable of a shell"),
        pytest.param(b"%(password)s", id="a format"),
        pytest.param(b"{{ db.pass1 }}", id="a template"),
        pytest.param(b"col-md-6", id="a class of CSS"),
        pytest.param(b"user1@example.com", id="an address"),
        pytest.param(b"/etc/secrets/db1", id="a path"),
        pytest.param(b"https://x.example/1", id="a URL"),
        pytest.param(b"sha256", id="an algorithm"),
        pytest.param(b"2.10.1", id="a release"),
        pytest.param(b"**********", id="stars"),
        pytest.param(b"12345678", id="digits alone"),
        pytest.param(b"abc1...", id="cut off"),
        pytest.param(b"aaaa1111", id="three letters"),
    ],
)
def test_no_passwords(value: bytes) -> None:
    assert not is_password(value)


@pytest.mark.parametrize(
    ("value", "bare"),
    [(b"AmpEjV1b", True), (b"hunter2", False), (b"password1", False), (b"s3cr3tpw", True), (b"value12", False)],
)
def test_bare(value: bytes, bare: bool) -> None:
    assert is_bare_password(value) is bare


@pytest.mark.parametrize(
    ("value", "random"),
    [(b"t)ho+64ak6!bt8$4n6+qe", True), (b"my-app-1-two-3", False), (b"fqi9th1xh0vqcrcv", True)],
)
def test_random(value: bytes, random: bool) -> None:
    assert is_random(value) is random


@pytest.mark.parametrize(
    ("value", "basic"),
    [
        (base64.b64encode(b"bob:hunter2"), True),
        (base64.b64encode(b"bob:hunter2").rstrip(b"="), True),
        (base64.b64encode(b"no colon here"), False),
        (base64.b64encode(b"user:"), False),
        (base64.b64encode(bytes(range(40, 100))[::-1] + b"\0:"), False),
        (b"abcde", False),
    ],
)
def test_basic(value: bytes, basic: bool) -> None:
    assert is_basic(value) is basic


LINE = base64.b64encode(bytes(range(57)))


@pytest.mark.parametrize(("before", "value", "inside"), [
    pytest.param(LINE + b"\n", b"EAAAbcd", True, id="the next line"),
    pytest.param(LINE + b"\r\n", b"EAAAbcd", True, id="of mail"),
    pytest.param(LINE + b"\\n", b"EAAAbcd", True, id="in JSON"),
    pytest.param(LINE + b"\nabcd/", b"EAAAbcd", True, id="in a line"),
    pytest.param(LINE.replace(b"/", b"_") + b"-", b"EAAAbcd", True, id="for URLs"),
    pytest.param(LINE + b"\n", b"ghp_abcd", False, id="another alphabet"),
    pytest.param(LINE + b"\n\n", b"EAAAbcd", False, id="behind an empty line"),
    pytest.param(LINE + b" ", b"EAAAbcd", False, id="behind a space"),
    pytest.param(b"AKIA0123456789ABCDEF\n", b"EAAAbcd", False, id="behind another value"),
    pytest.param(b"token=", b"EAAAbcd", False, id="behind a name"),
])
def test_in_base64(before: bytes, value: bytes, inside: bool) -> None:
    assert in_base64(before + value, len(before), value) is inside
