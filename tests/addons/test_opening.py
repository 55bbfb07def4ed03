"""What the first bytes of a request tell of its operation."""

import time

import pytest

from addons.opening import READ, files, told
from addons.operation import file_name, grpc_method, shown


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b'{"query":"query Me { me { id } }"}', "op:graphql:query:Me", id="named query"),
        pytest.param(b'{"query":"{ me { id } }"}', "op:graphql:query:me", id="shorthand"),
        pytest.param(b'{"query":"mutation { a: dropAll { ok } }"}', "op:graphql:mutation:dropAll", id="by its first field"),
        pytest.param(b'{"variables":{},"query":"\\n  subscription Live($a: Int = 1) @x {\\n n }"}',
                     "op:graphql:subscription:Live", id="escapes and variables"),
        pytest.param(b'{"query":"# mutation Not {\\nquery Yes { a }"}', "op:graphql:query:Yes", id="a comment is none"),
        pytest.param(b'[{"query":"query A{a}"},{"query":"mutation B{b}"}]', "op:graphql:mutation:B", id="a batch"),
        pytest.param(b'{"query":"query A{a} mutation B{b}","operationName":"A"}', "op:graphql:mutation:B",
                     id="all of a document"),
        pytest.param(b'{"operationName":"Feed","extensions":{"persistedQuery":{"sha256Hash":"x"}}}',
                     "op:graphql:persisted:Feed", id="persisted"),
        pytest.param(b'{"query":"fragment F on T { a } mutation B { b }"}', "op:graphql:mutation:B", id="after a fragment"),
        pytest.param(b'{"query":"mutation B(' + b"$a: Int = 1 " * 99 + b') { b }"}', "op:graphql:mutation:B", id="many variables"),
        pytest.param(b'{"query":"query A(' + b"$a: Int = 1 " * 250 + b') { a } mutation B { b }"}', "op:graphql:mutation:B",
                     id="far in"),
        pytest.param(b'{"query":"query A { a(b: \\"}\\") } mutation B { b }"}', "op:graphql:mutation:B", id="a bracket in a string"),
        pytest.param(b'{"query":"query A { a(b: \\"\\"\\" \\" } \\"\\"\\") } mutation B { b }"}', "op:graphql:mutation:B",
                     id="in a block string"),
        pytest.param(b'{"query":"query query @x { a }"}', "op:graphql:query:query", id="named like a type"),
        pytest.param(b'{"query":"mutation { ...F }"}', "op:graphql:mutation:unnamed", id="without a field"),
        pytest.param(b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"delete_file"}}', "op:mcp:tool:delete_file",
                     id="MCP"),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"eth_call"}', "op:rpc:eth_call", id="JSON-RPC"),
        pytest.param(b'{"email":"a@b.example","current_password":"x"}', "op:login", id="login"),
    ],
)  # fmt: skip
def test_json(body: bytes, expected: str) -> None:
    assert expected in [name for name, _ in told(body, "application/json", graphql=True)]


def test_what_stands_behind_the_first_bytes_is_not_passed_over_in_silence() -> None:
    long = b'{"query":"query Me { a }", "x":"' + b" " * READ + b'", "query":"mutation Drop { a }"}'
    found = [name for name, _ in told(long[:READ], "application/json", graphql=True)]
    assert found == ["protocol:graphql", "op:graphql:query:Me", "op:graphql:unread"]


@pytest.mark.parametrize(("kind", "begin"), [("application/form", b"query=query+A{a}"), ("text/plain", b"query A { a }")])
def test_nor_is_what_stands_behind_those_of_other_bodies(kind: str, begin: bytes) -> None:
    assert ("op:graphql:unread", 1.0) in told(begin.ljust(READ, b"+"), kind, graphql=True)
    assert ("op:graphql:unread", 1.0) not in told(begin, kind, graphql=True)


def test_words_inside_an_operation_are_none() -> None:
    body = b'{"query":"query A { user { query { b } mutation { c } } # mutation D { d }\\n }"}'
    assert [name for name, _ in told(body, "application/json", graphql=True)] == ["protocol:graphql", "op:graphql:query:A"]


@pytest.mark.parametrize("body", [b'{"query":"shoes"}', b'{"query":"query string"}', b'{"passage":"x"}', b'{"tokens":1}'])
def test_what_looks_alike(body: bytes) -> None:
    assert told(body, "application/json", graphql=False) == []


@pytest.mark.parametrize("body", [b"passphrase=x", b"a=1&user%5Bpassword%5D=x", b"grant_type=client_credentials"])
def test_forms(body: bytes) -> None:
    assert [name for name, _ in told(body, "application/form", graphql=False)] == ["op:login"]


def test_names_are_no_way_to_show_a_secret() -> None:
    assert shown("AKIAIOSFODNN7EXAMPLE1234") == "…"
    assert shown("GetUserById2") == "GetUserById2"
    assert grpc_method(b"/google.pubsub.v1.Publisher/Publish") == "google.pubsub.v1.Publisher/Publish"
    assert grpc_method(b"/a b/c") == ""


@pytest.mark.parametrize(
    ("header", "name"),
    [('form-data; name="f"; filename="a \\"b\\".txt"', 'a "b".txt'), ("attachment; filename=x.pdf", "x.pdf"),
     ("attachment; filename*=utf-8'en'%e2%82%ac.txt; filename=e.txt", "€.txt"), ("inline", ""),
     ("attachment; filename*=nonsense''%41", "")],
)  # fmt: skip
def test_file_names(header: str, name: str) -> None:
    assert file_name(header) == name


def test_nothing_takes_long() -> None:
    units = [b'"query":"', b"query(", b"{", b"content-disposition:", b"filename=", b"\\", b'"a":"', b"mutation a", b"&pass", b" "]
    for unit in units:
        head = (b'{"query":"' + unit * READ)[:READ]
        start = time.thread_time()
        for kind in ("application/json", "application/form", "text/plain"):
            told(head, kind, graphql=True)
        files(head)
        assert time.thread_time() - start < 0.02, unit
