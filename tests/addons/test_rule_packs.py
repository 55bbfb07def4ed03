"""Packs in gitleaks' format find what they find there, and say what they cannot do."""

import os
from pathlib import Path

import pytest

from addons.known_secrets import SERVICES
from addons.leaks import Finder
from addons.rule_packs import read
from addons.scan import Hyperscan, Keywords, PatternSet, Perscan
from tests.addons.conftest import SIZES, cut

ACME = """
[[rules]]
id = "acme-key"
description = "A key of Acme"
regex = '''(?i)[\\w.-]{0,50}?(?:acme)[ \\t\\w.-]{0,20}[=:][ "']{0,3}([a-z0-9]{12})(?:['"\\s;]|\\\\[nr]|$)'''
keywords = ["acme"]
"""


def pack(folder: Path, text: str = ACME, name: str = "pack.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def values(path: Path, text: str, size: int = 65536) -> list[str]:
    finder = Finder(PatternSet([rule.pattern for rule in read(path).rules]), str, "body")
    return [text[f.start : f.end] for chunk in cut(text.encode(), size) for f in finder.feed(chunk)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ACME_KEY = a1b2c3d4e5f6", ["a1b2c3d4e5f6"]),
        ('acme: "a1b2c3d4e5f6", acme2: "ffb2c3d4e5f6"', ["a1b2c3d4e5f6", "ffb2c3d4e5f6"]),
        ("-" * 5000 + "my.acme: a1b2c3d4e5f6\n" + "-" * 5000, ["a1b2c3d4e5f6"]),
        ("acme: a1b2c3d4e5f6x", []),
    ],
)
def test_a_rule_finds(tmp_path: Path, text: str, found: list[str], size: int) -> None:
    assert values(pack(tmp_path), text, size) == found


@pytest.mark.parametrize(
    ("more", "text", "found"),
    [
        pytest.param("entropy = 3.0", "acme: aaaaaaaaaaa1", False, id="entropy"),
        pytest.param("entropy = 3.0", "acme: a1b2c3d4e5f6", True, id="enough entropy"),
        pytest.param("[rules.allowlist]\nregexes = ['^a1']", "acme: a1b2c3d4e5f6", False, id="a regex allows"),
        pytest.param("[[rules.allowlists]]\nstopwords = ['C3D4']", "acme: a1b2c3d4e5f6", False, id="a stop word allows"),
        pytest.param("[[rules.allowlists]]\nregexTarget = 'match'\nregexes = ['test']", "acme_test: a1b2c3d4e5f6", False,
                     id="on the match"),
        pytest.param("[[rules.allowlists]]\nregexTarget = 'line'\nregexes = ['# test']", "acme: a1b2c3d4e5f6 # test", False,
                     id="on the line"),
        pytest.param("[[rules.allowlists]]\nregexTarget = 'line'\nregexes = ['# test']", "# test\nacme: a1b2c3d4e5f6", True,
                     id="not on another line"),
        pytest.param("[[rules.allowlists]]\ncondition = 'AND'\nregexes = ['^a1']\nstopwords = ['zzz']",
                     "acme: a1b2c3d4e5f6", True, id="AND needs all"),
        pytest.param("[[rules.allowlists]]\ncondition = 'AND'\npaths = ['x']\nregexes = ['^a1']", "acme: a1b2c3d4e5f6", True,
                     id="a path is never met"),
        pytest.param('filter = \'entropy(finding["secret"]) <= 3.9 || matchesAny(finding["secret"], [`^a1`])\'',
                     "acme: a1b2c3d4e5f6", False, id="a filter as betterleaks has them"),
        pytest.param('filter = \'!matchesAny(finding["secret"], [`^a1`])\'', "acme: a1b2c3d4e5f6", True, id="its negation"),
    ],
)  # fmt: skip
def test_what_narrows_a_rule(tmp_path: Path, more: str, text: str, found: bool) -> None:
    assert bool(values(pack(tmp_path, ACME + more), text)) is found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("text", "found"),
    [("acme " + "a1b2" * 4, ["a1b2" * 4]), ("a1b2" * 4, []), ("acme" + " " * 900 + "a1b2" * 4, [])],
)
def test_a_keyword_outside_of_the_expression_must_be_near(tmp_path: Path, text: str, found: list[str], size: int) -> None:
    path = pack(tmp_path, "[[rules]]\nid = 'x'\nregex = '\\b[a-f0-9]{16}\\b'\nkeywords = ['Acme']\n")
    assert values(path, text, size) == found


def test_the_group_that_is_asked_for_is_the_value(tmp_path: Path) -> None:
    rule = "[[rules]]\nid = 'x'\nregex = '(user) (\\w+)'\n"
    assert values(pack(tmp_path, rule), "user bob") == ["user"]
    assert values(pack(tmp_path, rule + "secretGroup = 2", "other.toml"), "user bob") == ["bob"]


def test_the_first_group_that_takes_part_is_the_value(tmp_path: Path) -> None:
    assert values(pack(tmp_path, "[[rules]]\nid = 'x'\nregex = 'key(?:=(\\w+);|: (\\w+);)'\n"), "key: abc;") == ["abc"]


def test_packs_extend_each_other(tmp_path: Path) -> None:
    pack(tmp_path, ACME + "\n[[rules]]\nid = 'old'\nregex = 'oldkey'\n", "base.toml")
    path = pack(tmp_path, "[extend]\npath = 'base.toml'\ndisabledRules = ['old']\n[[rules]]\nid = 'acme-key'\nentropy = 4.0\n")
    made = read(path)
    assert [rule.id for rule in made.rules] == ["acme-key"]
    assert made.disabled == {"old"}
    assert [file.name for file in made.files] == ["base.toml", "pack.toml"]
    assert values(path, "acme: a1b2c3d4e5f6") == []


def test_a_change_of_what_a_pack_extends_is_seen(tmp_path: Path) -> None:
    base = pack(tmp_path, ACME, "base.toml")
    path = pack(tmp_path, "[extend]\npath = 'base.toml'\n")
    for file in (base, path):
        os.utime(file, (1, 1))
    assert [rule.id for rule in read(path).rules] == ["acme-key"]
    assert read(path) is read(path), "it is translated once"
    pack(tmp_path, ACME.replace("acme-key", "other-key"), "base.toml")
    assert [rule.id for rule in read(path).rules] == ["other-key"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("rules = 3", "gitleaks' form", id="another form"),
        pytest.param("[[rules]]\nregex = 'a'", "rule 1 has no id", id="no id"),
        pytest.param("[[rules]]\nid = 'x'\nregex = '(a'", "pack.toml: rule 'x'.*not closed", id="a bad expression"),
        pytest.param("[[rules]]\nid = 'x'\nregex = 'a(?=b)'", "rule 'x'.*not in RE2", id="not in RE2's syntax"),
        pytest.param("[[rules]]\nid = 'x'\nregex = 'a'\nentropy = 'much'", "rule 'x'.*entropy", id="a bad number"),
        pytest.param("[[rules]]\nid = 'x'\nregex = 'a'\nsecretGroup = 3", "rule 'x'.*no group 3", id="a group that is none"),
        pytest.param("[[rules]]\nid = 'x'\nregex = 'a'\nkeywords = 'b'", "keywords", id="bad keywords"),
        pytest.param(ACME + "[rules.allowlist]\nregexes = ['(']", "allow list", id="a bad allow list"),
        pytest.param(ACME + "[rules.allowlist]\nregexTarget = 'file'", "regexTarget", id="a target that is none"),
        pytest.param(ACME + "[rules.allowlist]\ncondition = 'XOR'", "condition", id="a condition that is none"),
        pytest.param("[extend]\npath = 'pack.toml'", "extend each other", id="itself"),
        pytest.param("[extend]\npath = 'none.toml'", "none.toml: No such file", id="a file that is missing"),
        pytest.param("[[rules", "pack.toml: ", id="no TOML"),
    ],
)
def test_bad_packs(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(pack(tmp_path, text))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)rule 'x'.*rule 'y'"):
        read(pack(tmp_path, "[[rules]]\nid = 'x'\nregex = '('\n[[rules]]\nid = 'y'\nregex = ')'\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ACME + "path = 'x'", "path not evaluated"),
        (ACME + "skipReport = true", "left out"),
        ("[[rules]]\nid = 'x'\npath = 'y'", "left out"),
        (ACME + "[rules.allowlist]\npaths = ['x']", "paths of an allow list"),
        ("prefilter = 'x'\n" + ACME, "prefilter"),
        (ACME + "filter = 'size(x) > 3'", "not evaluated in its filter"),
    ],
)
def test_notes(tmp_path: Path, text: str, says: str) -> None:
    assert any(says in note for note in read(pack(tmp_path, text)).notes)


def test_a_changed_pack_is_read_anew(tmp_path: Path) -> None:
    path = pack(tmp_path)
    assert len(read(path).rules) == 1
    path.write_text(ACME + "[[rules]]\nid = 'x'\nregex = 'abc'\n")
    os.utime(path, ns=(1, 1))
    assert len(read(path).rules) == 2


@pytest.mark.parametrize("kind", [Perscan, Hyperscan, Keywords])
def test_what_comes_with_us_loads_whole(kind: type) -> None:
    pytest.importorskip({Perscan: "pyperscan", Hyperscan: "hyperscan", Keywords: "ahocorasick_rs"}[kind])
    made = read(SERVICES)
    assert made.notes == ()
    PatternSet([rule.pattern for rule in made.rules], kind)
