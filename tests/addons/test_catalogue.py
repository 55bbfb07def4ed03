"""The catalogue: ours is sane, a user's is read with every mistake named, and the longest suffix wins."""

from pathlib import Path

import pytest

from addons import catalogue
from addons.catalogue import CATEGORIES, OWN, load, mistakes

JA4 = "t13d1516h2_8daaf6152771_b186095e22b6"


@pytest.mark.parametrize(
    ("host", "path", "found"),
    [
        ("github.com", b"/", ("app:github", "category:code")),
        ("api.github.com", b"/", ("app:github", "category:code")),
        ("notgithub.com", b"/", ()),
        ("mail.google.com", b"/", ("app:gmail", "category:mail")),
        ("discord.com", b"/api/webhooks/1", ("app:discord-webhook", "category:chat", "category:webhook")),
        ("discord.com", b"/channels", ("app:discord", "category:chat")),
        ("unknown.example", b"/", ()),
        ("", b"/", ()),
    ],
)
def test_longest_suffix_wins(host: str, path: bytes, found: tuple[str, ...]) -> None:
    assert load().of(host, path) == found


def test_ours_is_sane() -> None:
    entries = catalogue._parse(OWN)
    assert [(line, text) for line, entry in entries for text in mistakes(entry)] == []
    assert len({entry["app"] for _, entry in entries}) == len(entries) >= 250
    used = {name for _, entry in entries for name in entry["categories"]}
    assert used == set(CATEGORIES)
    assert all(entry["categories"] for _, entry in entries)


def test_a_users_catalogue_adds_and_replaces(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"- {{app: intranet, categories: [own], hosts: [corp.example], ja4: [{JA4}], agents: [Corp/]}}\n"
                    "- {app: our-github, categories: [code], hosts: [github.com]}\n"
                    "- {app: wiki, categories: [own], hosts: [corp.example], paths: [/wiki/, /docs/]}\n")  # fmt: skip
    found = load([mine])
    assert found.of("a.corp.example", b"/") == ("app:intranet", "category:own")
    assert found.of("a.corp.example", b"/docs/x") == ("app:wiki", "category:own")
    assert found.of("github.com")[0] == "app:our-github"
    assert found.of("gitlab.com")[0] == "app:gitlab"
    assert found.of_ja4(JA4)[0] == found.of_agent(b"x corp/7")[0] == "app:intranet"
    mine.write_text("- {app: other, categories: [], hosts: [corp.example]}\n")
    assert load([mine]).of("corp.example") == ("app:other",), "a changed file is read again"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {app: a, hosts: [b.example]}\n- {app: A B, hosts: [co.uk]}", "mine.yaml:2: app: 'A B' is no name"),
        ("- {app: a, hosts: [b.example]}\n\n- {app: a, hosts: [co.uk]}", "mine.yaml:3: hosts: 'co.uk': no host name"),
        ("- {app: a, hosts: [B.example]}", "mine.yaml:1: hosts: 'B.example'"),
        ("- {app: a, host: [b.example]}", "no such field: host"),
        ("- {app: a, hosts: b.example}", "hosts: not a list of texts"),
        ("- {app: a, hosts: [1]}", "hosts: not a list of texts"),
        ("- {app: a}", "found by nothing"),
        ("- {app: a, agents: [x], paths: [/x]}", "paths below hosts"),
        ("- {app: a, hosts: [b.example], ja4: [x]}", "no JA4"),
        ("- {app: a, hosts: [b.example]}\n- {app: c, hosts: [b.example]}", "mine.yaml:2: b.example is in line 1 already"),
        ("app: a", "not a list of entries"),
        ("- [a", "expected ',' or ']'"),
        ("- 7", "mine.yaml:1: not an entry"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.yaml") as caught:
        load([mine])
    assert said in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        load([tmp_path / "none.yaml"])
