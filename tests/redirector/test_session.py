"""What the number of others' connections does to a start; the start itself is proved in tests/live/."""
import time

from redirector import session as module
from redirector.plan import Connection, Plan
from redirector.release import Record
from redirector.session import Session
from redirector.wire import Start

PLAN = Plan(ports=(443,), listen_port=8080, exempt_uid=997)


def connections(count):
    return [Connection(("192.0.2.1", port), ("198.51.100.2", 443), 1000, 1, 0, (2, b"")) for port in range(count)]


def test_a_new_start_is_not_held_up_by_thousands_of_connections(monkeypatch):
    """Any user can have as many, and must not be able to keep a proxy that died from coming back."""
    found = connections(30_000)
    monkeypatch.setattr(module, "existing", lambda _: found)
    let_go_on = [[*c.client, *c.server] for c in found[::2]]
    record = Record("guard", "t", 1, 1, "lockgate_guard_t", "closed", 1, let_go_on)
    session = Session(Start("t", "/run/lockgate", PLAN), PLAN)
    began = time.monotonic()
    assert session._older([record, record]) == found[::2]
    assert time.monotonic() - began < 5, "each with each would take minutes"
