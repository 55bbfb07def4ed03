"""Categories of hosts from lists in several formats."""

import pytest

from addons.categories import Categories, CategoryList
from addons.connection import Connection
from addons.verdict import labels
from tests.addons.conftest import request

LISTS = {
    "hosts": "# c\n0.0.0.0 casino.example www.casino.example\n127.0.0.1 localhost\n",
    "names": "casino.example\n",
    "rules": "! c\n||casino.example^\n##.ad\n",
    "v2fly": "# c\ndomain:casino.example @ads\nfull:one.bet.example\nkeyword:poker\nregexp:^slot\\d+\\.\ninclude:more @x\n",
    "more": "lotto.example @x\nskipped.example @y\ninclude:most\ninclude:most @y\n",
    "most": "raffle.example @x\nother.example\ntombola.example @x @y\n",
}


@pytest.fixture
def lists(tmp_path):
    for name, text in LISTS.items():
        (tmp_path / name).write_text(text)
    return lambda name, category="gambling", **options: CategoryList(category, tmp_path / name, **options)


@pytest.mark.parametrize("name", ["hosts", "names", "rules", "v2fly"])
def test_formats(lists, name):
    filter_ = Categories((lists(name),), ("gambling",))
    assert filter_.requestheaders(request(host="x.casino.example")).reason == "x.casino.example is of the category gambling"
    assert filter_.requestheaders(request(host="notcasino.example")) is None


@pytest.mark.parametrize(("host", "found"), [
    ("casino.example", True), ("one.bet.example", True), ("two.one.bet.example", False), ("bet.example", False),
    ("mypoker.example", True), ("slot7.example", True), ("myslot7.example", False), ("lotto.example", True),
    ("skipped.example", False), ("raffle.example", True), ("other.example", False), ("tombola.example", True),
])
def test_v2fly(lists, host, found):
    assert Categories((lists("v2fly"),)).of(host) == (("gambling",) if found else ())


def test_labels_and_blocks(lists):
    filter_ = Categories((lists("names"), lists("more", "lottery", format="v2fly")), ("lottery",))
    flow = request(host="casino.example")
    assert filter_.requestheaders(flow) is None
    assert labels(flow) == {"category:gambling"}
    conn = Connection("a.lotto.example", ("192.0.2.1", 443), ("127.0.0.1", 1), None, tls=True)
    assert filter_.connection(conn) is not None
    assert labels(conn) == {"category:lottery"}


def test_files_that_are_read_are_named(lists, tmp_path):
    assert set(Categories((lists("v2fly"),)).files) == {tmp_path / name for name in ("v2fly", "more", "most")}


@pytest.mark.parametrize(("text", "message"), [
    ("", "no host"), ("\0\1", "not a text"), ("include:../x\n", "not a name"), ("include:self\n", "too deep"),
    ("include:nobody\n", "no such file"), (None, "lists update"),
])
def test_bad_lists(tmp_path, text, message):
    if text is not None:
        (tmp_path / "self").write_text(text)
    with pytest.raises(ValueError, match=message):
        Categories((CategoryList("c", tmp_path / "self", "https://x.example/"),))


def test_a_category_that_no_list_has(lists):
    with pytest.raises(ValueError, match="no list"):
        Categories((lists("names"),), ("games",))
