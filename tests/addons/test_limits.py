"""Methods, sizes, contents and times."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from addons import schedule
from addons.contents import Contents
from addons.limits import Methods, Sizes
from addons.schedule import Times, Window
from addons.verdict import DONE
from tests.addons.conftest import SIZES, cut, request

PE = b"MZ\x90\0\3\0\0\0" + b"\0" * 600
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 600


@pytest.mark.parametrize(("options", "method", "blocked"), [
    ({"allow": ("GET", "head")}, "HEAD", False),
    ({"allow": ("GET",)}, "POST", True),
    ({"block": ("delete",)}, "DELETE", True),
    ({"block": ("DELETE",)}, "GET", False),
])
def test_methods(options, method, blocked):
    assert (Methods(**options).requestheaders(request(method=method)) is not None) is blocked


@pytest.mark.parametrize("make", [
    lambda: Methods(), lambda: Methods(allow=("GET",), block=("PUT",)), lambda: Methods(block=("no method",)),
    lambda: Sizes(), lambda: Sizes(request=-1), lambda: Contents(), lambda: Contents(block=("nonsense",)),
    lambda: Contents(block=("archive",), allow=("image",)), lambda: Times(), lambda: Times(block=("8-18",)),
    lambda: Times(block=("mon 08:00-08:00",)), lambda: Times(block=("mon 08:00-24:30",)),
    lambda: Times(block=("xyz 08:00-18:00",)), lambda: Times(allow=("08:00-18:00",), timezone="Nowhere/City"),
])
def test_bad_options(make):
    with pytest.raises(ValueError, match=r"\w"):
        make()


@pytest.mark.parametrize(("size", "blocked"), [(1000, False), (1001, True)])
def test_an_announced_size_decides_at_once(size, blocked):
    flow = request(content_length=str(size))
    flow.response.headers["content-length"] = str(size)
    assert (Sizes(request=1000).requestheaders(flow) is not None) is blocked
    assert (Sizes(response=1000).responseheaders(flow) is not None) is blocked
    assert Sizes(request=1000).requestbody(flow) is None       # nothing left to count


@pytest.mark.parametrize(("length", "blocked"), [("0" * 30 + "7", False), ("9" * 20, True), ("9" * 5000, True)])
def test_an_announced_size_of_any_length_is_a_number(length, blocked):
    assert (Sizes(request=1000).requestheaders(request(content_length=length)) is not None) is blocked


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
def test_the_size_of_what_is_not_sent_does_not_count(method, status):
    flow = request(method=method)
    flow.response.status_code, flow.response.headers["content-length"] = status, "1001"
    assert Sizes(response=1000).responseheaders(flow) is None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("length", "blocked"), [(1000, False), (1001, True)])
def test_other_sizes_are_counted(size, length, blocked):
    scan = Sizes(request=1000).requestbody(request(transfer_encoding="chunked"))
    said = [scan(piece) for piece in cut(b"x" * length, size)]
    assert any(said) is blocked


def test_a_coded_body_is_counted_decoded():
    assert Sizes(request=1000).requestbody(request(content_length="10", content_encoding="gzip"))


def test_sizes_of_heads():
    assert Sizes(url=10).requestheaders(request("/12345678901"))
    assert not Sizes(url=10).requestheaders(request("/123456789"))
    assert Sizes(headers=50).requestheaders(request(x_long="v" * 50))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("options", "declared", "body", "blocked"), [
    pytest.param({"block": ("executable",)}, "image/png", PE, True, id="a program that claims to be an image"),
    pytest.param({"block": ("executable",)}, "image/png", PNG, False, id="an image"),
    pytest.param({"block": ("image",)}, "", PNG, True, id="a group"),
    pytest.param({"block": ("png",)}, "", PNG, True, id="a short name"),
    pytest.param({"block": ("image/*",)}, "text/plain", PNG, True, id="a pattern"),
    pytest.param({"allow": ("image",)}, "", PE, True, id="not among those allowed"),
    pytest.param({"allow": ("image",)}, "", b"hello", False, id="text is nobody's format"),
    pytest.param({"disguised": True}, "image/png", PE, True, id="disguised"),
    pytest.param({"disguised": True}, "application/octet-stream", PE, False, id="not disguised"),
    pytest.param({"disguised": True}, "text/plain", b"MZ is no program", False, id="text that begins like one"),
    pytest.param({"block": ("executable",)}, "", b"", False, id="empty"),
    pytest.param({"block": ("archive",)}, "", b"MSCF\0\0\0\0" + bytes(600), True, id="a rare archive"),
])
def test_contents(size, options, declared, body, blocked):
    flow = request()
    flow.response.headers["content-type"] = declared
    scan, said = Contents(**options).responsebody(flow), []
    for piece in cut(body, size):
        if verdict := scan(piece):
            said.append(verdict)
            break
    assert (said != [] and said[0] is not DONE) is blocked


@pytest.mark.parametrize(("window", "local", "inside"), [
    ("mon-fri 08:00-18:00", "2026-11-23 08:00", True),
    ("mon-fri 08:00-18:00", "2026-11-23 18:00", False),
    ("mon-fri 08:00-18:00", "2026-11-22 12:00", False),
    ("sat,sun 10:00-24:00", "2026-11-22 23:59", True),
    ("22:00-06:00", "2026-11-22 23:00", True),
    ("22:00-06:00", "2026-11-22 05:59", True),
    ("fri 22:00-06:00", "2026-11-28 05:00", True),
    ("fri 22:00-06:00", "2026-11-27 05:00", False),
    ("fri 22:00-06:00", "2026-11-29 05:00", False),
    ("fri-mon 00:00-24:00", "2026-11-22 12:00", True),
    ("fri-mon 00:00-24:00", "2026-11-24 12:00", False),
    ("MON  8:00-9:30", "2026-11-23 09:29", True),
])
def test_windows(window, local, inside):
    assert Window.parse(window).has(datetime.fromisoformat(local)) is inside


@pytest.mark.parametrize(("utc", "blocked"), [
    ("2026-07-01 05:59", False), ("2026-07-01 06:00", True),      # summer: two hours ahead
    ("2026-12-01 06:59", False), ("2026-12-01 07:00", True),      # winter: one
    ("2026-10-25 00:30", False),
])
def test_summer_time(monkeypatch, utc, blocked):
    moment = datetime.fromisoformat(f"{utc}+00:00")
    monkeypatch.setattr(schedule, "now", lambda zone: moment.astimezone(zone))
    times = Times(block=("08:00-18:00",), timezone="Europe/Berlin")
    assert (times.requestheaders(request()) is not None) is blocked


def test_allowed_times(monkeypatch):
    monkeypatch.setattr(schedule, "now", lambda zone: datetime(2026, 11, 23, 12, tzinfo=ZoneInfo("UTC")))
    assert Times(allow=("mon 08:00-18:00",)).requestheaders(request()) is None
    assert Times(allow=("tue 08:00-18:00",)).requestheaders(request()) is not None
