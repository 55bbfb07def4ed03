"""Secrets are found wherever they go out, and ordinary traffic is left alone."""

import base64
import gzip
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from addons.credentials import Secrets
from addons.scan import Keywords, PatternSet, Perscan
from addons.verdict import Action
from tests.addons.conftest import SIZES, cut, heard, request

DATA = Path(__file__).parents[3] / "shared" / "data" / "dlp"
#: Cases whose label says that they are no measure of a scanner.
UNFIT = ("weak", "detector_local", "path_dependent", "ambiguous", "noisy", "composite")

AWS = "AKIA" + "QYLPMN5HFIQR7XYA"
GITHUB = "ghp_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n"
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"

FOUND = [
    pytest.param(AWS, "aws-access-key-id", id="AWS access key"),
    pytest.param(f'{{"a": "{AWS}", "b": 1}}', "aws-access-key-id", id="in JSON"),
    pytest.param(f"a=1&k={AWS}&b=2", "aws-access-key-id", id="in a form"),
    pytest.param("aws_secret_access_key = " + "k" * 4 + "8Rfh3Lq9ZxT2vB7nYpW5sD1gJ6mC0aEuHiQ/", "aws-secret-access-key",
                 id="AWS secret key"),
    pytest.param(GITHUB, "github-token", id="GitHub token"),
    pytest.param(f"x{' ' * 9000}{GITHUB}{' ' * 9000}x", "github-token", id="far inside"),
    pytest.param(PEM, "private-key", id="private key: header and first line"),
    pytest.param(json.dumps(PEM), "private-key", id="private key in JSON"),
    pytest.param(PEM.replace("PRIVATE", "RSA PRIVATE").replace("\n", "\r\n"), "private-key", id="RSA, CRLF"),
    pytest.param('myDatadogKey: "' + "a1b2c3d4e5" * 4 + '"', "datadog-key", id="named value"),
    pytest.param(JWT, "jwt", id="JSON web token"),
    pytest.param("password = 'hunter2Kx9vQw7zLm3'", "generic-secret", id="password"),
    pytest.param("DB_PASSWORD=AmpEjV1b\nDB_HOST=localhost\n", "password-unquoted", id=".env"),
    pytest.param('{"user": "app", "password": "XRaKOo7b"}', "password", id="password in JSON"),
    pytest.param("<password>n0XTssz9</password>", "password-element", id="password in XML"),
    pytest.param("define('DB_PASSWORD', 'J#LKiz-B6p');", "password", id="PHP"),
    pytest.param("machine api.example login bob password zgFB9Pmk0a", "netrc-password", id="netrc"),
    pytest.param("- name: DB_PASSWORD\n  value: QkKsKay1EN4c\n", "named-value", id="Kubernetes, environment"),
    pytest.param("tool --api-key 6DLTUG8fjVrlP5ZBXQUgC5", "option-secret", id="command line"),
    pytest.param('{"auth": "' + base64.b64encode(b"bob:hunter2!").decode() + '"}', "registry-auth", id="Docker"),
    pytest.param("Private-Lines: 1\r\n" + "QWxhZGRpbjpvcGVuIHNlc2FtZTEyMzQ1Njc4OTA=", "putty-key", id="PuTTY"),
    pytest.param('{"kty": "EC", "d": "G7HTBguKtOugQARfrxhevjyt9eBNxzSAyp8EHedG0n3"}', "jwk-key", id="JSON web key"),
    pytest.param("sk-or-v1-" + "0123456789abcdef" * 4, "openrouter-key", id="OpenRouter"),
    pytest.param("gsk_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx" + "Ab3dEf6hIj9lMn2p", "prefixed-key", id="Groq"),
    pytest.param("postgres://app:s3cr3tPa55@db.example/x", "url-password", id="password in a URL"),
]  # fmt: skip


def found(text: bytes, size: int = 65536, secrets: Secrets | None = None) -> list[str]:
    finder = (secrets or Secrets()).scanner()
    return [finding.rule for chunk in cut(text, size) for finding in finder.feed(chunk)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("text", "rule"), FOUND)
def test_found(text: str, rule: str, size: int) -> None:
    assert found(text.encode(), size) == [rule]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("AKIA" + "IOSFODNN7EXAMPLE", id="the key of AWS's documentation"),
        pytest.param("AKIA" + "X" * 16, id="no entropy"),
        pytest.param("x" + AWS, id="inside a word"),
        pytest.param("ghp_" + "a" * 36, id="placeholder"),
        pytest.param("API_KEY=${API_KEY}", id="a variable"),
        pytest.param('{"password": "correct horse battery"}', id="a phrase"),
        pytest.param('"integrity": "sha512-' + base64.b64encode(bytes(range(64))).decode() + '"', id="lock file"),
        pytest.param("mypy/token.pyi,sha256=9kLlQlmffvLgVeS7cQC-OGDuzwKmP92YOOfqmaIDRUM,12", id="RECORD"),
        pytest.param("ReactNativeCameraKit: f15a5a04b0f6dc6073e6db0296e6ef2d8b8d2522", id="a name within a word"),
        pytest.param("-----BEGIN CERTIFICATE-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA", id="certificate"),
        pytest.param("-----BEGIN PRIVATE KEY----- is how a key begins", id="prose about keys"),
        pytest.param("Tokens expire after 3600 seconds; the secret: patience, and 2 cups of tea.", id="prose"),
        pytest.param('{"d": "G7HTBguKtOugQARfrxhevjyt9eBNxzSAyp8EHedG0n3"}', id="a short name, no key"),
        pytest.param('"password": "Mot de passe", "password_hint": "Passwort"', id="translations"),
        pytest.param("password = get_password2()\npassword: str1 = os.environ['PASSWORD1']", id="code"),
        pytest.param("password: ${DB_PASSWORD1}\nsecret: {{ vault.secret1 }}", id="templates"),
        pytest.param("privKey = X509MarshalPKCS1PrivateKey(k)", id="a function with a number"),
        pytest.param("const token = modadvapi32.NewProc(1)", id="a library with a number"),
        pytest.param('{"access_token": "2YotnFZFEjr1zCsicMWpAA"}', id="the token of RFC 6749"),
        pytest.param("export TOKEN=ops_eyJzaWduSW5BZGRyZXNzIjoiaHR0cHM6...", id="cut off"),
        pytest.param("nextPageToken: CAUQAA9f8e7d6c5b4a", id="page token"),
    ],
)
def test_not_found(text: str) -> None:
    assert found(text.encode()) == []


def test_random_bytes_and_base64_are_no_secrets() -> None:
    noise = random.Random(3).randbytes(1 << 20)
    assert found(noise) + found(base64.b64encode(noise)) == []


@pytest.mark.parametrize(
    ("options", "text", "host", "action"),
    [
        pytest.param({}, AWS, "site.example", Action.BLOCK, id="block by default"),
        pytest.param({"action": "kill"}, AWS, "site.example", Action.KILL, id="kill"),
        pytest.param({"action": "alert"}, AWS, "site.example", Action.ALERT, id="alert"),
        pytest.param({}, JWT, "site.example", Action.ALERT, id="a weak rule alerts"),
        pytest.param({"rules": ("jwt",)}, JWT, "site.example", Action.BLOCK, id="a weak rule that is named blocks"),
        pytest.param({"rules": ("aws",)}, GITHUB, "site.example", None, id="not chosen"),
        pytest.param({"rules": ("aws", "github")}, GITHUB, "site.example", Action.BLOCK, id="groups"),
        pytest.param({}, GITHUB, "api.github.com", None, id="on its way home"),
        pytest.param({}, GITHUB, "github.com.evil.example", Action.BLOCK, id="a host that only looks like home"),
        pytest.param({}, f"{JWT} {AWS}", "site.example", Action.BLOCK, id="the worst decides"),
    ],
)
def test_verdict(options: dict, text: str, host: str, action: Action | None) -> None:
    viewer = Secrets(**options).requestviews(request(host=host))
    verdicts = [verdict.action for verdict in heard(viewer, text.encode(), 50)]
    assert verdicts[-1:] == ([action] if action else [])


@pytest.mark.parametrize(
    ("options", "headers", "blocked"),
    [
        pytest.param({}, {"x_note": AWS}, True, id="any header"),
        pytest.param({}, {"authorization": f"Bearer {GITHUB}"}, False, id="Authorization is how APIs work"),
        pytest.param({}, {"cookie": f"k={GITHUB}"}, False, id="cookie"),
        pytest.param({"credentials_headers": True}, {"authorization": f"Bearer {GITHUB}"}, True, id="unless asked"),
        pytest.param({"credentials_headers": True},
                     {"authorization": "Basic " + base64.b64encode(f"u:{GITHUB}".encode()).decode()}, True, id="Basic"),
    ],
)  # fmt: skip
def test_headers(options: dict, headers: dict[str, str], blocked: bool) -> None:
    verdict = Secrets(**options).requestheaders(request(**headers))
    assert bool(verdict and verdict.action is Action.BLOCK) is blocked


def test_the_verdict_does_not_hold_the_secret() -> None:
    verdict = Secrets().requestheaders(request(f"/?k={GITHUB}"))
    assert verdict
    assert GITHUB[5:] not in repr(verdict)
    assert [(f.kind, f.where, f.sample) for f in verdict.findings] == [("secret.github-token", "url", "ghp_…")]


PACK = "[[rules]]\nid = 'acme'\nregex = 'acme_[a-z0-9]{8}'\nkeywords = ['acme_']\n"


def test_packs_find_beside_our_rules_or_in_their_place(tmp_path: Path) -> None:
    (path := tmp_path / "pack.toml").write_text(PACK)
    text = f"{AWS} acme_a1b2c3d4".encode()
    assert found(text, secrets=Secrets(packs=(path,))) == ["aws-access-key-id", "acme"]
    assert found(text, secrets=Secrets(packs=(path,), own_rules=False)) == ["acme"]
    assert found(text, secrets=Secrets(packs=(path,), rules=("acme",))) == ["acme"]
    assert Secrets(packs=(path,)).files == [path]


def test_a_pack_takes_our_rules_away_and_replaces_them(tmp_path: Path) -> None:
    (path := tmp_path / "pack.toml").write_text(
        "[extend]\ndisabledRules = ['github-token']\n[[rules]]\nid = 'aws-access-key-id'\nregex = 'XKIA[A-Z]{4}'\n"
    )
    assert found(f"{AWS} {GITHUB} XKIAABCD".encode(), secrets=Secrets(packs=(path,))) == ["aws-access-key-id"]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"packs": (Path("/none.toml"),)}, "none.toml: No such file"), ({"own_rules": False}, "no rules"), ({"rules": ("aws", "gitbuh")}, "gitbuh"), ({"action": "allow"}, "action")],
)
def test_bad_options(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Secrets(**options)


def test_both_engines_give_the_same_verdicts() -> None:
    text = "\n".join(case.values[0] for case in FOUND).encode()
    patterns = Secrets()._patterns.patterns
    results = []
    for kind in (Perscan, Keywords):
        pytest.importorskip("pyperscan")
        stream = PatternSet(patterns, kind).stream()
        results.append([hit for chunk in cut(text, 999) for hit in stream.feed(chunk)])
    assert results[0] == results[1]
    assert results[0]


def test_ordinary_json_is_fast() -> None:
    """A guard against gross slowness, not a measurement: 1000 MB/s on the machine of 2026."""
    body = json.dumps([{"id": n, "token_count": n, "name": "the quick brown fox"} for n in range(20_000)]).encode()
    finder, start = Secrets().scanner(), time.perf_counter()
    for chunk in cut(body, 65536):
        assert not finder.feed(chunk)
    assert len(body) / (time.perf_counter() - start) > 5e6


def cases(name: str) -> Iterator[dict]:
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path.name} here")
    with gzip.open(path, "rt") as lines:
        for case in map(json.loads, lines):
            if not any(case.get(flag) for flag in UNFIT):
                yield case


@pytest.mark.parametrize(("name", "recall", "precision"), [("secrets_gitleaks", 0.97, 0.97),
                                                           ("secrets_detect_secrets", 0.78, 0.99)])  # fmt: skip
def test_labelled_cases(name: str, recall: float, precision: float) -> None:
    right = missed = wrong = 0
    for case in cases(name):
        payload = case["payload"].encode() if "payload" in case else base64.b64decode(case["payload_b64"])
        hit, expected = bool(found(payload)), bool(case["expect"])
        right, missed, wrong = right + (hit and expected), missed + (expected > hit), wrong + (hit > expected)
    assert right / (right + missed) >= recall
    assert right / (right + wrong) >= precision
