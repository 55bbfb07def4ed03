"""The tables of docs/capture.md are those of the code, and say what the suite found."""

import pytest

from tests.contract import table


def test_declarations_in_the_docs_are_those_of_the_code():
    """Else: python -m tests.contract.table"""
    text = table.DOCS.read_text()
    assert table.put(text, "declared", table.declared(table.declarations())) == text


def test_results():
    cases = {"ends: a": "failed", "ends: b": "not offered: ipv6", "bytes: c": "failed", "many: d": "not installed: nft"}
    runs = {"hook": {"cases": cases, "ran": "Linux 6.18"}}, {"hook": {"cases": {"ends: a": "passed"}, "ran": "FULL=1"}}
    text = table.found(table.merged(runs))
    assert "| beginnings and ends | 1 pass, 1 not offered |" in text
    assert "| all bytes, in order | 0 pass, **1 fail** |" in text
    assert "| many connections | 0 pass, **1 fail** |" in text      # a case that did not run is not one that passes
    assert "`hook` does not offer: IPv6." in text
    assert "Run: FULL=1; Linux 6.18." in text


def test_markers():
    assert table.put("a\n<!-- x -->\nold\n<!-- /x -->\nb", "x", "new\n") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb"
    with pytest.raises(ValueError, match="no markers"):
        table.put("a", "x", "new\n")
