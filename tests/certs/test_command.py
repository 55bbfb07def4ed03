"""A command that fails says which it was and what it said."""

from pathlib import Path

import pytest

from certs import command
from certs.command import StoreError, run


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            ["sh", "-c", "echo out; echo err >&2; exit 3"], r"`sh -c .*` failed with 3:\nout\nerr", id="failure"
        ),
        pytest.param(["no-such-program"], "no-such-program is not installed", id="not there"),
        pytest.param(["sh", "-c", "read a </dev/tty"], "failed with", id="no terminal to ask on"),
        pytest.param(["sleep", "5"], "no answer within", id="hangs"),
    ],
)
def test_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line, message):
    monkeypatch.setattr(command, "TIME_LIMIT", 0.2)
    with pytest.raises(StoreError, match=message):
        run(line, home=tmp_path)


def test_input_and_codes(tmp_path: Path):
    assert run(["cat"], home=tmp_path, given=b"in") == "in"
    assert run(["sh", "-c", "echo so; exit 1"], home=tmp_path, codes=(0, 1)) == "so\n"


def test_the_environment_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A CA variable of the caller would answer for the store that is asked."""
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "HTTPS_PROXY", "PYTHONPATH"):
        monkeypatch.setenv(name, "bait")
    output = run(["env"], home=tmp_path)
    assert "bait" not in output
    assert f"HOME={tmp_path}" in output
