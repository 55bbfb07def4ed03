"""DNS answers keep everything but what hides a name."""

import random
import struct

import pytest

from proxy.dnsmessage import BadMessage, strip

QUESTION = b"\7example\3org\0" + struct.pack("!HH", 65, 1)
#: Offset 12 is the name of the question.
OWNER = b"\xc0\x0c"
ECH = (5, b"\0\x45\xfe\x0d" + bytes(67))
HINT = (4, bytes((192, 0, 2, 1)))


def record(kind, data, owner=OWNER):
    return owner + struct.pack("!HHIH", kind, 1, 300, len(data)) + data


def service(*params, kind=65, priority=1, target=b"\0", owner=OWNER):
    fields = b"".join(struct.pack("!HH", key, len(value)) + value for key, value in params)
    return record(kind, struct.pack("!H", priority) + target + fields, owner)


def answer(*records, question=QUESTION, flags=0x81A0):
    return struct.pack("!6H", 7, flags, 1, len(records), 0, 0) + question + b"".join(records)


def alpn(*names):
    return 1, b"".join(bytes([len(name)]) + name for name in names)


A = record(1, bytes((192, 0, 2, 1)))


@pytest.mark.parametrize(("before", "after"), [
    pytest.param([service(alpn(b"h2"), ECH, (6, bytes(16)))], [service(alpn(b"h2"), (6, bytes(16)))], id="ech between others"),
    pytest.param([service(ECH)], [service()], id="ech alone"),
    pytest.param([service(ECH, kind=64)], [service(kind=64)], id="SVCB"),
    pytest.param([A, service(ECH), A], [A, service(), A], id="between other records"),
    pytest.param([service(ECH, priority=1), service(HINT, ECH, priority=2)],
                 [service(priority=1), service(HINT, priority=2)], id="two records"),
    pytest.param([service(alpn(b"h2", b"h3"))], [service(alpn(b"h2"))], id="h3 behind h2"),
    pytest.param([service(alpn(b"h3", b"h3-29", b"h2"))], [service(alpn(b"h2"))], id="h3 and a draft before h2"),
    pytest.param([service(alpn(b"h3"), (2, b""), HINT)], [service(HINT)], id="h3 only, no default"),
    pytest.param([service((0, b"\0\1\0\5"), alpn(b"h2"), ECH)], [service((0, b"\0\1"), alpn(b"h2"))], id="one of the mandatory"),
    pytest.param([service((0, b"\0\5"), ECH)], [service()], id="the only mandatory"),
    pytest.param([service((0, b"\0\1\0\4"), alpn(b"h3"), HINT)], [service((0, b"\0\4"), HINT)], id="mandatory h3"),
])
def test_what_hides_names_goes(before, after):
    assert strip(answer(*before), ech=True, http3=True) == answer(*after, flags=0x8180)


@pytest.mark.parametrize("records", [
    pytest.param([A], id="an address"), pytest.param([service(alpn(b"h2"), HINT)], id="nothing to hide"),
    pytest.param([record(16, b"\5\0\5\0\1x")], id="text that looks like one"), pytest.param([], id="no answer"),
    pytest.param([service(alpn(b"http/1.1", b"h2c", b"h30"))], id="names like h3"),
])
def test_all_else_stays_byte_for_byte(records):
    assert strip(answer(*records), ech=True, http3=True) == answer(*records)


@pytest.mark.parametrize(("ech", "http3", "left"), [
    (True, False, (alpn(b"h2", b"h3"),)), (False, True, (alpn(b"h2"), ECH)), (False, False, (alpn(b"h2", b"h3"), ECH))])
def test_only_what_the_policy_says(ech, http3, left):
    flags = 0x8180 if ech or http3 else 0x81A0
    assert strip(answer(service(alpn(b"h2", b"h3"), ECH)), ech=ech, http3=http3) == answer(service(*left), flags=flags)


def test_names_that_point_over_what_went_still_point_to_their_names():
    """A compressed name in a later record, and within its data, is the target of the first (RFC 1035, 4.1.4)."""
    target = b"\5other\4test\0"
    first = service(ECH, target=target)
    place = 12 + len(QUESTION) + len(OWNER) + 10 + 2
    late_owner = b"\3www" + OWNER
    late_at = 12 + len(QUESTION) + len(first)
    pointing = [record(1, bytes(4), struct.pack("!H", 0xC000 | place)), record(5, struct.pack("!H", 0xC000 | late_at))]
    cut = 4 + len(ECH[1])
    moved = [pointing[0], record(5, struct.pack("!H", 0xC000 | late_at - cut))]
    between = record(1, bytes(4), late_owner)
    assert strip(answer(first, between, *pointing), ech=True, http3=False) == \
        answer(service(target=target), between, *moved, flags=0x8180)


@pytest.mark.parametrize("message", [
    pytest.param(b"", id="nothing"), pytest.param(bytes(11), id="less than a header"),
    pytest.param(bytes(65536), id="more than a message may have"),
    pytest.param(answer(A)[:-1], id="cut"), pytest.param(answer(A) + b"\0", id="more behind it"),
    pytest.param(answer(record(1, bytes(4), b"\xc0\xff")), id="a pointer onwards"),
    pytest.param(answer(question=b"\xc0\x0c\0\1\0\1"), id="a pointer to itself"),
    pytest.param(answer(question=b"\x41a\0\0\1\0\1"), id="a label of an unknown kind"),
    pytest.param(answer(question=b"\1a" * 200 + b"\0\0\1\0\1"), id="a name without end"),
    pytest.param(answer(service(ECH, alpn(b"h2"))), id="parameters out of order"),
    pytest.param(answer(service(ECH, ECH)), id="a parameter twice"),
    pytest.param(answer(service(alpn(b"h2"))[:-4] + b"\xff\1h2"), id="a protocol beyond its list"),
    pytest.param(answer(service((0, b"\0\5\0"), ECH)), id="half a mandatory key"),
    pytest.param(answer(service(target=b"\xc0\x0c")), id="a compressed target"),
    pytest.param(answer(service(ECH), record(1, bytes(4), struct.pack("!H", 0xC000 | 60))), id="a name within the keys"),
])
def test_what_cannot_be_read_in_one_way_is_refused(message):
    with pytest.raises(BadMessage):
        strip(message, ech=True, http3=True)


def test_noise_ends_in_an_answer_or_a_refusal():
    chance = random.Random(4)
    whole = answer(service(alpn(b"h2", b"h3"), HINT, ECH), A, service(ECH))
    for _ in range(3000):
        noisy = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            noisy[chance.randrange(len(noisy))] = chance.randrange(256)
        try:
            done = strip(bytes(noisy), ech=True, http3=True)
        except BadMessage:
            continue
        assert strip(done, ech=True, http3=True) == done
