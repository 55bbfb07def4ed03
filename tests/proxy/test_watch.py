"""A changed file of any kind leads to new rules, and no half-written one does."""

import os
from pathlib import Path

import pytest

from proxy.chain import Chain
from proxy.policy import parse
from proxy.registry import load_all
from proxy.session import Rules
from proxy.watch import Watch, files_of
from tests.proxy.conftest import GET, running

POLICY = """\
version: 1
tls:
  upstream:
    trusted_ca: roots.pem
    identities: [{hosts: [a.test], file: me.pem}]
filters:
  - {id: hosts, use: blocklist.Hosts, with: {files: [hosts.txt, /lists/more.txt]}}
  - {id: mine, use: "./mine.py:Mine"}
  - {id: deeper, use: "filters/other.py:Mine"}
"""


MINE = """
from pathlib import Path
class Mine:
    def error(self, flow): pass
    {}
"""


def loaded(folder, more="", policy=POLICY):
    """A policy file with all that it names, and the rules built from it."""
    (folder / "filters").mkdir()
    (folder / "mine.py").write_text(MINE.format(more))
    (folder / "filters/other.py").write_text(MINE.format(""))
    (folder / "hosts.txt").write_text("ads.test\n")
    (folder / "filters/more.txt").write_text("")
    path = folder / "policy.yaml"
    path.write_text(policy.replace("/lists", str(folder / "filters")))
    read, filters = load_all(path)
    return path, Rules(read, Chain(filters))


def test_what_rules_are_built_from(tmp_path):
    found = {str(file.relative_to(tmp_path)) for file in files_of(*loaded(tmp_path))}
    assert found == {"policy.yaml", "roots.pem", "me.pem", "mine.py", "filters/other.py", "hosts.txt",
                     "filters/more.txt"}


@pytest.mark.parametrize(("filters", "named"), [
    pytest.param("files = [Path('x.txt')]", True, id="a list"),
    pytest.param("files = property(lambda self: {Path('x.txt')})", True, id="a property"),
    pytest.param("files = 7", False, id="a number"),
    pytest.param("files = 'x.txt'", False, id="text"),
    pytest.param("files = ['x.txt', None]", False, id="a list of something else"),
    pytest.param("def files(self): return [Path('x.txt')]", False, id="a method of a stock addon"),
    pytest.param("files = property(lambda self: 1 / 0)", False, id="one that fails"),
])
def test_what_a_filter_says(tmp_path, filters, named):
    policy, rules = loaded(tmp_path, filters)
    assert (tmp_path / "x.txt" in files_of(policy, rules)) == named


@pytest.fixture
def rules(tmp_path):
    return loaded(tmp_path)[1]


@pytest.fixture
def watch(tmp_path, rules):
    return Watch(tmp_path / "policy.yaml", rules)


def grow(file):
    with file.open("a") as more:
        more.write("x.test\n")


def replace_(file):
    """By another of the same size and time."""
    new = file.with_suffix(".new")
    new.write_bytes(file.read_bytes())
    os.utime(new, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    new.replace(file)


@pytest.mark.parametrize("change", [grow, replace_, Path.unlink])
@pytest.mark.parametrize("name", ["policy.yaml", "mine.py", "hosts.txt"])
def test_a_change_is_told_once_it_is_over(tmp_path, watch, name, change):
    assert not watch.due()
    change(tmp_path / name)
    assert [watch.due(), watch.due()] == [False, True]
    watch.mark()
    assert [watch.due(), watch.due()] == [False, False]


def test_a_file_that_is_being_written_is_waited_for(tmp_path, watch):
    for _ in range(3):
        grow(tmp_path / "hosts.txt")
        assert not watch.due()
    assert watch.due()


def test_a_change_during_a_reload_is_one(tmp_path, watch, rules):
    watch.mark()
    grow(tmp_path / "hosts.txt")
    watch.follow(rules)
    assert [watch.due(), watch.due()] == [False, True]


def test_what_is_no_longer_named_is_not_watched(tmp_path, watch):
    watch.follow(Rules(parse(b"version: 1", tmp_path / "policy.yaml"), Chain(())))
    watch.mark()
    grow(tmp_path / "hosts.txt")
    assert [watch.due(), watch.due()] == [False, False]


def test_no_policy_file(tmp_path, rules):
    watch = Watch(None, rules)
    grow(tmp_path / "hosts.txt")
    assert [watch.due(), watch.due()] == [False, False]


def test_an_edited_list_is_in_force_soon(folder, origin):
    policy = f"""\
version: 1
tls: {{upstream: {{trusted_ca: {origin.roots}}}}}
filters:
  - {{id: no-ads, use: blocklist.Hosts, with: {{files: [ads.txt]}}}}
"""
    (folder / "lists").mkdir()
    (folder / "lists/ads.txt").write_text("ads.test\n")
    with running(folder / "lists", policy) as proxy:
        assert proxy.ask(origin, GET).status == 200
        with (folder / "lists/ads.txt").open("a") as more:
            more.write("origin.test\n")
        proxy.said("reloaded")
        assert proxy.ask(origin, GET).status == 403
