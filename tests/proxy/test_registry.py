"""Filter files are written by the tests; every way in which one can be wrong is a line of a table."""

import sys
import warnings
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from mitmproxy.test import tflow

from addons.connection import Parent, Process
from addons.verdict import label
from proxy.policy import PolicyError, parse
from proxy.registry import BUILT_IN, MAX_NESTING, build, compile_when, import_built_in

MINE = '''
from __future__ import annotations
from dataclasses import dataclass, field
from pathlib import Path

@dataclass
class Mine:
    """Every kind of option; annotations are text here."""
    hosts: tuple[str, ...] = ()
    sizes: list[int] = field(default_factory=list)
    minimum: int = 1
    share: float = 0.5
    exact: bool = False
    file: Path | None = None
    odd: complex = 0j
    _private: int = 0

    def __post_init__(self):
        if self.minimum == 13:
            raise ValueError("minimum must not be 13")
        if self.minimum == 14:
            raise RuntimeError("boom")

    def request(self, flow): ...

class Plain:
    def requestheaders(self, flow): ...

class Needs:
    def __init__(self, what): ...
    def request(self, flow): ...

class Typo:
    def requestheader(self, flow): ...

@dataclass
class Unknown:
    x: Nowhere = 0
    def request(self, flow): ...

thing = 3
'''


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o700)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "folder.py").mkdir()
    return tmp_path


def made(folder, rules, **options):
    return build(parse(f"version: 1\nfilters:\n{rules}\n".encode(), folder / "policy.yaml"), folder, **options)


def errors(folder, rules, **options):
    before = set(sys.modules)
    with pytest.raises(PolicyError) as caught:
        made(folder, rules, **options)
    assert not [name for name in set(sys.modules) - before if "filter" in name], "nothing stays registered"
    return [line.removeprefix(f"{folder}/") for line in caught.value.errors]


def test_options(folder):
    [loaded] = made(folder, "- {id: a, use: './mine.py:Mine', with: {hosts: [x], sizes: [1, 2], minimum: 2, share: 1, "
                            "exact: true, file: list.txt}}")
    mine = loaded.filter
    assert (mine.hosts, mine.sizes, mine.minimum, mine.share) == (("x",), [1, 2], 2, 1.0)
    assert (mine.exact, mine.file, loaded.matches, loaded.rule.id) == (True, folder / "list.txt", None, "a")


@pytest.mark.parametrize(("rest", "message"), [
    pytest.param("use: ./mine.py:Mine, with: {hosts: x}",
                 '.with.hosts: expected a list (text each), got "x"', id="no list"),
    pytest.param("use: ./mine.py:Mine, with: {hosts: [750]}", ".with.hosts[0]: expected text, got 750; quote it",
                 id="no text"),
    pytest.param("use: ./mine.py:Mine, with: {minimun: 2}", ".with.minimun: unknown key; did you mean `minimum`?",
                 id="unknown option"),
    pytest.param("use: ./mine.py:Mine, with: {_private: 2}", "_private: unknown key;", id="private field"),
    pytest.param("use: ./mine.py:Mine, with: {odd: 1}", ".with.odd: cannot be set from a policy", id="odd type"),
    pytest.param("use: ./mine.py:Mine, with: [1]", ".with: expected a mapping, got a list", id="options no mapping"),
    pytest.param("use: ./mine.py:Mine, with: {minimum: 13}", ".with: minimum must not be 13", id="ValueError"),
    pytest.param("use: ./mine.py:Mine, with: {minimum: 14}", "RuntimeError: boom", id="another exception"),
    pytest.param("use: ./mine.py:Plain, with: {a: 1}", ".with.a: unknown key; known: none", id="class without fields"),
    pytest.param("use: ./mine.py:Needs", "TypeError", id="constructor wants arguments"),
    pytest.param("use: ./mine.py:Typo", ".use: it has none of the hooks that are called: connection,", id="no hook"),
    pytest.param("use: ./mine.py:Unknown", "NameError: name 'Nowhere'", id="unknown annotation"),
    pytest.param("use: ./mine.py:thing", ".use: not a class", id="no class"),
    pytest.param("use: ./mine.py:Gone", "mine.py has no `Gone`", id="no such name"),
    pytest.param("use: ./gone.py:Mine", "gone.py: No such file or directory", id="no such file"),
    pytest.param("use: ./folder.py:Mine", "folder.py: not a regular file", id="folder"),
    pytest.param("use: ./mine.py", "it has none of the hooks", id="neither hooks nor addons"),
    pytest.param("use: classify.http", "did you mean classify.Http?", id="no such filter"),
    pytest.param("use: zzz", "known: blocklist.Hosts, canary.Canary", id="nothing like it"),
    pytest.param("use: ./mine.py:Plain, when: '~d ['", ".when: a regular expression that is none", id="regex"),
    pytest.param("use: ./mine.py:Plain, when: '~d a )'", ".when: not a filter expression, at column", id="when"),
])
def test_mistake(folder, rest, message):
    [error] = errors(folder, block(rest))
    assert message in error
    assert error.startswith("policy.yaml:")


def block(rest):
    """Write a rule over several lines, so that the line in the message is seen to be that of the key."""
    use, _, more = rest.partition(", ")
    return f"- id: a\n  {use}\n  {more}"


@pytest.mark.parametrize(("source", "message"), [
    pytest.param("def request(flow)\n", "bad.py:1: expected ':'", id="syntax error"),
    pytest.param("\n\n1 / 0", "bad.py:3: ZeroDivisionError: division by zero", id="raises"),
    pytest.param("import sys; sys.exit(1)", "bad.py:1: SystemExit: 1", id="exits"),
    pytest.param("import nowhere_to_be_found", "bad.py:1: ModuleNotFoundError", id="import"),
    pytest.param("\0", "null bytes", id="binary"),
])
def test_bad_file(folder, source, message):
    (folder / "bad.py").write_text(source)
    [error] = errors(folder, "- id: a\n  use: ./bad.py")
    assert error.startswith("policy.yaml:4: filters[0].use: ")
    assert message in error


def test_all_mistakes_at_once(folder):
    found = errors(folder, "- {id: a, use: nothing}\n"
                           "- {id: b, use: './mine.py:Mine', when: '~d [', with: {q: 1, r: 2}}\n"
                           "- {id: c, use: './mine.py:Plain'}")
    assert [line.split(":")[1] for line in found] == ["3", "4", "4", "4"]


def test_fresh_at_every_build(folder):
    """A reload runs the file as it is now; what was built before keeps its code."""
    def answer():
        return made(folder, "- {id: a, use: ./live.py}")[0].filter
    (folder / "live.py").write_text("def request(flow): return 1")
    old = answer()
    (folder / "live.py").write_text("def request(flow): return 2")
    new = answer()
    assert (old.request(None), new.request(None)) == (1, 2)


def test_stock_addons(folder):
    """A file of mitmproxy addons is used as it is: its list, or its own functions."""
    (folder / "many.py").write_text("class A:\n    def response(self, flow): ...\naddons = [A(), A()]\n")
    (folder / "bare.py").write_text("def request(flow): ...\n")
    loaded = made(folder, "- {id: a, use: ./many.py, when: ~all}\n- {id: b, use: ./bare.py}")
    assert [(each.rule.id, each.matches is None) for each in loaded] == [("a", False), ("a", False), ("b", True)]
    assert "takes no options" in errors(folder, "- {id: a, use: ./many.py, with: {a: 1}}")[0]


#: What filters cannot do without.
NEEDED = {
    "external.External": "program: /bin/true", "icap.Icap": "url: 'icap://127.0.0.1/x'", "limits.Contents": "block: [archive]",
    "limits.Methods": "block: [PUT]", "limits.Quotas": "name: a, requests: 1", "limits.Sizes": "request: 1",
    "limits.Times": "block: ['22:00-23:00']", "canary.Canary": "values: [a-canary-value]", "keywords.Keywords": "terms: [word]",
    "filetypes.FileTypes": "kinds: [archive]", "classify.Labels": "block: [a]",
}
#: Those that read a file made beforehand have tests of their own.
READING = {"documents.Documents", "exactdata.ExactData"}


@pytest.mark.parametrize("name", sorted(BUILT_IN.keys() - READING))
def test_built_in(folder, name):
    needed = f", with: {{{NEEDED[name]}}}" if name in NEEDED else ""
    [loaded] = made(folder, f"- {{id: a, use: {name}{needed}}}")
    assert type(loaded.filter) is import_built_in(name)


def test_entry_point(folder, monkeypatch):
    entry = EntryPoint("good.Filter", "addons.classify:Http", "lockgate.filters")
    broken = EntryPoint("bad.Filter", "nowhere_to_be_found:Http", "lockgate.filters")
    found = EntryPoints([entry, broken])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found.select(group=group))
    assert type(made(folder, "- {id: a, use: good.Filter}")[0].filter).__name__ == "Http"
    assert "ModuleNotFoundError" in errors(folder, "- {id: a, use: bad.Filter}")[0]


def test_file_that_others_may_write(folder):
    (folder / "mine.py").chmod(0o666)
    rule = "- {id: a, use: './mine.py:Plain'}"
    assert "other users may write" in errors(folder, rule, strict=True)[0]
    assert made(folder, rule, strict=False)


def flow():
    found = tflow.tflow()
    found.request.host, found.request.method = "api.host.example", "POST"
    found.metadata["process"] = Process(1, "/usr/bin/backup", user="ann", uid=1000,
                                        parents=(Parent(2, "/bin/sh"), Parent(3), Parent(4, "/opt/Agent")))
    label(found, "protocol:http/2")
    return found


@pytest.mark.parametrize(("when", "holds"), [
    ("~m POST", True), ("~m GET", False), ("~d host\\.example", True), ("!~d internal", True),
    ("~app /usr/bin/backup", True), ("~app ^backup", False), ("!~app /usr/bin/backup", False),
    ("~label protocol:http/2", True), ("~label protocol", False), ("~label protocol:http/1.1", False),
    ("~m POST & !~d internal & !~app /usr/bin/curl", True), ("(~m GET | ~label 'protocol:http/2') & ~d api", True),
    ("~app /USR/BIN", True), ("~exe /usr/bin/backup", True), ("~exe /USR/BIN", False), ("~exe ^/bin/sh$", False),
    ("~tree ^/usr/bin/backup$", True), ("~tree ^/bin/sh$", True), ("~tree ^/opt/Agent$", True),
    ("~tree ^/opt/agent$", False), ("~tree ^$", False), ("~user ann", True), ("~user 1000", True),
    ("~user an", False), ("~user 100", False), ("~user ANN", False), ("~user 'a.*|bob'", True),
    ("!~tree /opt/Agent & ~user ann", False), ("~m POST & ~tree /opt/Agent & !~user root", True),
    ("~u '((((((a))))))'", True), ("~a", False),
])
def test_when(when, holds):
    assert compile_when(when)(flow()) is holds


@pytest.mark.parametrize("when", ["~app .*", "~exe .*", "~tree .*", "~user .*"])
@pytest.mark.parametrize("known", [None, Process(0), Process(7, ended=True)], ids=["nothing", "no fields", "ended"])
def test_when_who_asks_is_not_known(when, known):
    """What is not known matches nothing; `~app` also finds what can be found in nothing."""
    found = tflow.tflow()
    found.metadata["process"] = known
    assert compile_when(when)(found) is (when == "~app .*" and known is not None)


@pytest.mark.parametrize("when", [
    pytest.param("", id="empty"), pytest.param("~app", id="no argument"), pytest.param("~zz a", id="unknown"),
    pytest.param("~b secret", id="body"), pytest.param("~bq x", id="request body"), pytest.param("~bs x", id="answer"),
    pytest.param("(~d a", id="open"), pytest.param("~d a && ~d b", id="&&"), pytest.param("~d a || ~d b", id="||"),
    pytest.param("~d a &", id="nothing after it"), pytest.param("~d (", id="no word"), pytest.param("~d [", id="regex"),
    pytest.param("~exe [", id="regex of a path"), pytest.param("~user", id="no user"),
    pytest.param("(" * (MAX_NESTING + 1) + "~d a" + ")" * (MAX_NESTING + 1), id="deep"),
])
def test_when_refused(when):
    with pytest.raises(ValueError, match=r"filter expression|regular expression|nested"):
        compile_when(when)


def test_mitmproxy_keeps_its_own_language():
    compile_when("~app x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from mitmproxy import flowfilter
        assert flowfilter.parse("~b x")
        with pytest.raises(ValueError, match="Invalid filter"):
            flowfilter.parse("~app x")


def test_no_path_of_a_neighbour(folder):
    """A filter file cannot import the file beside it, which nobody has checked."""
    (folder / "helper_beside.py").write_text("")
    (folder / "bad.py").write_text("import helper_beside")
    assert "ModuleNotFoundError" in errors(folder, "- {id: a, use: ./bad.py}")[0]
