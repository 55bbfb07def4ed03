"""What a `when:` says of a connection, before there is a request: whether it can hold for whoever connects."""

import pytest
from mitmproxy.test import tflow

from addons.connection import Parent, Process
from addons.verdict import label
from proxy.registry import compile_when

CURL = Process(7, "/usr/bin/curl", user="ann", uid=1000, parents=(Parent(1, "/opt/agent"),))


@pytest.mark.parametrize(("when", "process", "could"), [
    pytest.param("~exe curl", CURL, True, id="it does"),
    pytest.param("~exe wget", CURL, False, id="it does not"),
    pytest.param("!~exe curl", CURL, False, id="not"),
    pytest.param("~tree ^/opt/agent$ & ~user ann", CURL, True, id="both"),
    pytest.param("~tree ^/opt/agent$ & ~user bob", CURL, False, id="not both"),
    pytest.param("~exe wget | ~user ann", CURL, True, id="one of them"),
    pytest.param("~exe wget | ~user bob", CURL, False, id="none of them"),
    pytest.param("~m POST", CURL, True, id="that depends on the request"),
    pytest.param("!~m POST", CURL, True, id="so does its opposite"),
    pytest.param("~m POST & ~app wget", CURL, False, id="whatever the request"),
    pytest.param("~m POST | ~app wget", CURL, True, id="on the request alone"),
    pytest.param("!(~m POST | ~app curl)", CURL, False, id="nested"),
    pytest.param("~label x & ~exe curl", CURL, True, id="on what filters find out"),
    pytest.param("~exe .*", None, False, id="nobody is known"),
    pytest.param("!~user root", None, True, id="and is not root"),
    pytest.param("~u a ~exe wget", CURL, False, id="side by side is and"),
])
def test_a_connection(when, process, could):
    assert compile_when(when).concerns(process) is could


@pytest.mark.parametrize(("when", "holds"), [
    ("~label op:login", True), ("~label op:login@0.8", False), ("~label 'op:*' & ~m GET", True), ("~label 'op:x*'", False),
    ("!~label app:x", True),
])
def test_labels(when, holds):
    flow = tflow.tflow()
    label(flow, "op:login", 0.7)
    assert compile_when(when)(flow) is holds
