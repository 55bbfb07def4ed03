"""Quotas: counted for whom they are, begun anew with each window, and not forgotten by a restart."""

from datetime import UTC, datetime

import pytest

from addons import keeping, quotas, usage
from addons.connection import Process
from addons.quotas import Quotas
from tests.addons.conftest import SIZES, cut, request


@pytest.fixture(autouse=True)
def kept(tmp_path):
    """Each test has a state folder of its own."""
    keeping.use(tmp_path)
    yield tmp_path / "quotas"
    keeping.use(None)
    for made in usage._shared.values():
        made.close()
    usage._shared.clear()


def ask(quota, host="a.example", exe="/bin/a"):
    flow = request("/", host)
    flow.metadata["process"] = Process(1, exe)
    return quota.requestheaders(flow)


def test_requests_by_app_and_host():
    quota = Quotas("q", requests=2)
    assert [ask(quota) is None for _ in range(3)] == [True, True, False]
    assert ask(quota, host="b.example") is None
    assert ask(quota, exe="/bin/b") is None
    assert ask(quota).reason == "quota q: 2 requests of this day for /bin/a a.example are used up"


def test_one_share_for_all():
    quota = Quotas("q", requests=1, by=(), action="alert")
    assert ask(quota) is None
    assert ask(quota, host="b.example", exe="/bin/b").action == "alert"


@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_both_directions(size):
    quota, flow = Quotas("q", bytes=100, by=("host",)), request("/", "a.example")
    up, down = quota.requestbody(flow), quota.responsebody(flow)
    assert [verdict for piece in cut(b"x" * 60, size) if (verdict := up(piece))] == []
    said = [verdict for piece in cut(b"x" * 60, size) if (verdict := down(piece))]
    assert [verdict.action for verdict in said] == ["block"]
    assert quota.requestheaders(flow) is not None


def test_a_new_window_begins_empty(monkeypatch):
    hour = 10
    monkeypatch.setattr(quotas, "now", lambda zone: datetime(2026, 1, 1, hour, tzinfo=UTC))
    quota = Quotas("q", requests=1, per="hour")
    assert ask(quota) is None
    assert ask(quota) is not None
    hour = 11
    assert ask(quota) is None


def test_use_outlasts_a_restart(kept):
    assert ask(Quotas("q", requests=1)) is None
    usage.shared().close()
    usage._shared.clear()
    assert ask(Quotas("q", requests=1)) is not None
    assert [(row[0], row[2], row[3], row[5]) for row in usage.rows(kept)] == [("q", "/bin/a a.example", 1, 1)]


def test_a_changed_quota_keeps_its_use():
    assert ask(Quotas("q", requests=1)) is None
    assert ask(Quotas("q", requests=2)) is None
    assert ask(Quotas("q", requests=2)) is not None


def test_subjects_are_bounded(monkeypatch):
    monkeypatch.setattr(usage, "MAX_SUBJECTS", 2)
    quota = Quotas("q", requests=2)
    assert [ask(quota, host=f"h{n}.example") is None for n in range(5)] == [True, True, True, True, False]


def test_a_disk_that_refuses_is_no_reason_to_stop(kept):
    quota = Quotas("q", requests=2)
    (kept / usage.FILE).unlink(missing_ok=True)
    (kept / usage.FILE).mkdir()
    ask(quota)
    usage.shared().write()
    assert ask(quota) is None


@pytest.mark.parametrize("options", [{}, {"requests": -1}, {"requests": 1, "timezone": "x/y"}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=r"\w"):
        Quotas("q", **options)
