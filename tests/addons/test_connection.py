"""What is not known of a process or a connection is empty, never missing."""

from addons.connection import Connection, Process


def test_a_connection_needs_only_its_ends() -> None:
    connection = Connection(None, ("2001:db8::1", 443), ("::1", 40000))
    assert (connection.process, connection.alpn, connection.ja4, connection.labels) == (None, (), None, set())


def test_an_ended_process_has_only_its_pid() -> None:
    assert Process(7, ended=True) == Process(7, "", (), "", None, (), "", True)


def test_labels_are_not_shared() -> None:
    one, other = (Connection(None, ("192.0.2.1", 443), ("127.0.0.1", 1)) for _ in range(2))
    one.labels.add("x")
    assert not other.labels
