"""URL rules: the syntax of filter lists, exactly; exceptions over all lists; which rule it was."""

import pytest

from addons import keeping, urlengine
from addons.requestkind import asked
from addons.urls import Rules, UrlList
from addons.verdict import Action, labels
from tests.addons.conftest import request

PAGE = "https://www.page.example/article"


def ask(path="/", host="ads.example", page=PAGE, kind="script", method="GET"):
    flow = request(path, host, method, **({"referer": page} if page else {}))
    flow.request.data.scheme, flow.request.data.port = b"https", 443
    flow.metadata["resource_type"] = kind
    return flow


def blocked(rules, **asking):
    verdict = Rules(rules=tuple(rules)).requestheaders(ask(**asking))
    assert verdict is None or verdict.action is Action.BLOCK
    return verdict is not None


@pytest.mark.parametrize(("rule", "asking", "expected"), [
    ("||ads.example^", {}, True),
    ("||ads.example^", {"host": "x.ads.example", "kind": "document"}, True),
    ("||ads.example^", {"host": "badads.example"}, False),
    ("0.0.0.0 ads.example", {}, True),
    ("/banner/*/img^", {"path": "/banner/7/img?x"}, True),
    ("/banner/*/img^", {"path": "/banner/7/imgs"}, False),
    ("|https://ads.example/x", {"path": "/x/y"}, True),
    ("x.js|", {"path": "/x.js?"}, False),
    ("|https://ads.example|", {}, True),
    ("/x?", {"path": "/x?"}, True),
    ("/grün", {"path": "/gr%C3%BCn"}, True),
    (r"/^https:\/\/ads\.example\/\d{3}/", {"path": "/123"}, True),
    (r"/foo\!\=bar/", {"path": "/foo!=bar"}, True),
    (r"/ads\.(?!good)/", {"host": "ads.example"}, True),
    (r"/ads\.(?!exam)/", {"host": "ads.example"}, False),
    ("/X.js$match-case", {"path": "/x.js"}, False),
    ("/X.js$match-case", {"path": "/X.js"}, True),
    ("||ads.example:8443^", {}, False),
    # kinds of resources, and their other names
    ("||ads.example^$css", {"kind": "stylesheet"}, True),
    ("||ads.example^$xhr", {"kind": "fetch"}, True),
    ("||ads.example^$frame", {"kind": "subdocument"}, True),
    ("||ads.example^$doc", {"kind": "document"}, True),
    ("||ads.example^$~script", {}, False),
    ("||ads.example/x$all", {"path": "/x", "kind": "document"}, True),
    ("/x.js", {"path": "/x.js", "kind": "document"}, False),
    ("||ads.example^$popup,script", {}, True),
    ("||ads.example^$redirect=noop.js,script", {}, True),
    # parties
    ("||ads.example^$3p", {}, True),
    ("||ads.example^$third-party", {"page": "https://www.ads.example/"}, False),
    ("||ads.example^$1p", {"page": "https://www.ads.example/"}, True),
    ("||ads.example^$strict1p", {"page": "https://www.ads.example/"}, False),
    ("||ads.example^$strict3p", {"page": "https://www.ads.example/"}, True),
    ("||ads.example^$third-party", {"page": None}, True),
    ("||ads.example^$third-party", {"page": None, "kind": "document"}, False),
    # domains
    ("||ads.example^$domain=page.example", {}, True),
    ("||ads.example^$from=page.example|~www.page.example", {}, False),
    ("||ads.example^$domain=page.*", {"page": "https://page.co.uk/"}, True),
    ("||ads.example^$domain=page.*", {"page": "https://page.other.co.uk/"}, False),
    ("||ads.example^$domain=~page.*", {"page": "https://page.co.uk/"}, False),
    ("||ads.example^$domain=/^www\\.p.ge/", {}, True),
    ("*$3p,domain=page.example,denyallow=good.example|ads.example", {}, False),
    ("*$3p,domain=page.example,denyallow=good.example", {}, True),
    ("*$domain=page.example,to=ads.*", {}, True),
    ("*$domain=page.example,to=~ads.example", {}, False),
    # methods
    ("||ads.example^$method=post|put", {"method": "PUT"}, True),
    ("||ads.example^$method=post", {}, False),
    ("||ads.example^$method=~post", {"method": "POST"}, False),
])
def test_syntax(rule, asking, expected):
    assert blocked([rule], **asking) is expected


@pytest.mark.parametrize(("rules", "asking", "expected"), [
    (["||ads.example^", "@@||ads.example/ok"], {"path": "/ok"}, False),
    (["||ads.example^$important", "@@||ads.example/ok"], {"path": "/ok"}, True),
    (["||ads.example^", "@@||ads.example^$domain=page.*"], {}, False),
    (["||ads.example^$important", "@@||ads.example^$domain=page.*"], {}, True),
    (["*$domain=page.*,to=ads.example", "@@||ads.example/ok"], {"path": "/ok"}, False),
    (["*$domain=page.*,to=ads.example,important", "@@||ads.example/ok"], {"path": "/ok"}, True),
    (["||ads.example^", "@@||page.example^$document"], {}, False),
    (["||ads.example^", "@@||other.example^$document"], {}, True),
    (["||ads.example^", "||ads.example^$badfilter"], {}, False),
    (["||ads.example^$domain=page.*", "||ads.example^$domain=page.*,badfilter"], {}, False),
])
def test_rules_together(rules, asking, expected):
    assert blocked(rules, **asking) is expected


def test_a_verdict_names_rule_and_line(tmp_path):
    (tmp_path / "easy.txt").write_text("! title\n##.ad\n||ads.example^$popup\n||ads.example^$3p\n||b.example^$css,to=b.example\n")
    rules = Rules(files=(tmp_path / "easy.txt",))
    assert rules.requestheaders(ask()).reason == "URL is blocked: ||ads.example^$third-party in easy.txt:4"
    assert rules.requestheaders(ask(host="b.example", kind="stylesheet")).reason.endswith("in easy.txt:5")
    assert rules.notes == ["2 URL rules, 1 of them beyond the engine", "1 rules about the look of pages have no effect",
                           "1 lines not supported: $popup, as easy.txt:3: ||ads.example^$popup"]


def test_an_exception_leaves_a_label():
    flow = ask()
    assert Rules(rules=("||ads.example^", "@@||ads.example^")).requestheaders(flow) is None
    assert labels(flow) == {"urls:excepted"}


@pytest.mark.parametrize("rule", ["||a.example^$bogus", "/a(/$domain=x.*", "*", "^" * 99 + "$to=a.example"])
def test_what_is_no_rule_is_a_mistake_in_the_policy(rule):
    with pytest.raises(ValueError, match="not a rule"):
        Rules(rules=(rule,))


def test_a_list_that_is_missing(tmp_path):
    with pytest.raises(ValueError, match="lockgate lists update"):
        Rules(lists=(UrlList(tmp_path / "x.txt", url="https://lists.example/x"),))


# -- what is kept


@pytest.fixture
def kept(tmp_path):
    keeping.use(tmp_path / "state")
    yield tmp_path / "state/urls"
    keeping.use(None)


def test_compiled_lists_are_kept(kept, tmp_path):
    (tmp_path / "a.txt").write_text("||ads.example^\n||b.example^$to=b.example\n")
    first = Rules(files=(tmp_path / "a.txt",))
    assert Rules(files=(tmp_path / "a.txt",))._set is first._set      # a reload with the same lists costs nothing
    reason = first.requestheaders(ask()).reason
    del first
    file, = kept.glob("*.rules")
    again = Rules(files=(tmp_path / "a.txt",))
    assert again.requestheaders(ask()).reason == reason
    assert again.requestheaders(ask(host="b.example"))
    assert again.notes == ["2 URL rules, 1 of them beyond the engine"]
    del again
    file.write_bytes(file.read_bytes()[:-5])
    assert Rules(files=(tmp_path / "a.txt",)).requestheaders(ask()).reason == reason


def test_another_process_compiles(kept):
    sources = [urlengine.Source("x", "auto", "||ads.example^\n")]
    file = kept.parent / "made.rules"
    kept.parent.mkdir(exist_ok=True)
    urlengine._elsewhere(sources, file)
    assert urlengine._load(file).stats.engine == 1


def test_what_is_remembered_is_bounded():
    rules = Rules(rules=("||ads.example^",))
    for number in range(200):
        assert rules.requestheaders(ask(f"/{number}?{'x' * 20_000}")) is not None
        assert rules.requestheaders(ask(f"/{number}")) is not None
    assert len(rules._known) == 200


# -- what a request is


@pytest.mark.parametrize(("headers", "path", "kind"), [
    ({"sec_fetch_dest": "image"}, "/", "image"),
    ({"sec_fetch_dest": "iframe"}, "/x.js", "subdocument"),
    ({"sec_fetch_dest": "empty", "sec_fetch_mode": "cors"}, "/x.js", "xmlhttprequest"),
    ({"sec_fetch_dest": "empty", "sec_fetch_mode": "no-cors"}, "/", "ping"),
    ({"sec_fetch_dest": "empty", "sec_fetch_mode": "websocket"}, "/", "websocket"),
    ({"sec_fetch_dest": "serviceworker"}, "/", "script"),
    ({"upgrade": "websocket"}, "/", "websocket"),
    ({"x_requested_with": "XMLHttpRequest"}, "/x.js", "xmlhttprequest"),
    ({"accept": "text/html,*/*"}, "/x.js", "document"),
    ({"accept": "image/avif,image/webp,*/*;q=0.8"}, "/", "image"),
    ({"accept": "text/css,*/*;q=0.1"}, "/", "stylesheet"),
    ({"accept": "application/json"}, "/", "xmlhttprequest"),
    ({"accept": "*/*"}, "/a/b.woff2?x", "font"),
    ({}, "/a/b.MP4", "media"),
    ({}, "/", "other"),
])
def test_kind_of_resource(headers, path, kind):
    assert asked(request(path, "h.example", "GET", **headers)).type == kind


@pytest.mark.parametrize(("headers", "third"), [
    ({"referer": "https://a.example.co.uk/x"}, False),
    ({"referer": "https://a.example.org/x"}, True),
    ({"origin": "https://a.example.org"}, True),
    ({"origin": "null", "sec_fetch_site": "cross-site"}, True),
    ({"sec_fetch_site": "same-site"}, False),
    ({"sec_fetch_site": "none"}, False),
    ({"referer": "https://"}, None),
    ({"referer": "https://" + "a." * 30_000 + "b.example.co.uk/"}, None),
    ({}, None),
])
def test_third_party(headers, third):
    assert asked(request("/", "b.example.co.uk", "GET", **headers)).third is third

