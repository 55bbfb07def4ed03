"""Personal data are found in what people and programs write, whole and in pieces; what looks like them is not."""

import json
import random
from urllib.parse import urlencode

import pytest

from addons.pii import Pii, chosen, known
from addons.scan import Keywords, PatternSet, Perscan
from addons.verdict import Action, Finding
from tests.addons.conftest import SIZES, cut, heard, request

ALL = Pii(minimum=1)


def found(text: str, size: int = 1 << 20, pii: Pii = ALL) -> list[Finding]:
    finder = pii.scanner()
    return [f for chunk in cut(text.encode(), size) for f in finder.feed(chunk)]


def kinds(text: str, size: int = 1 << 20) -> set[str]:
    return {f.kind.removeprefix("pii.") for f in found(text, size)}


FOUND = [
    pytest.param("us_ssn", "His number is 536-90-4399, she said.", id="SSN with dashes"),
    pytest.param("us_ssn", "SSN: 536904399", id="solid SSN behind its name"),
    pytest.param("us_ssn", "536904399 is my social security number", id="and before it"),
    pytest.param("us_ssn", '{"employeeSsn":"536904399"}', id="in camel case"),
    pytest.param("us_itin", "ITIN 912-70-1234", id="ITIN"),
    pytest.param("iban", "to DE89 3704 0044 0532 0130 00 please", id="IBAN in groups"),
    pytest.param("iban", '{"iban":"gb29nwbk60161331926819"}', id="IBAN in lower case"),
    pytest.param("bic", "SWIFT code DEUTDEFF500", id="BIC"),
    pytest.param("credit_card", "a,4111111111111111,b", id="card in CSV"),
    pytest.param("email", "write to <jane.doe+x@mail.example.org>.", id="e-mail"),
    pytest.param("email", '{"to":"o\'neil@xn--bcher-kva.example.de"}', id="punycode"),
    pytest.param("ip", "from 203.0.113.7:443", id="IPv4"),
    pytest.param("ip", "http://[2001:db8::7]:80/", id="IPv6 in a URL"),
    pytest.param("ip", "fe80::1%eth0 is up", id="a zone"),
    pytest.param("ip", "::ffff:192.0.2.1", id="mapped"),
    pytest.param("ip", "host=93.184.216.34&x=1", id="in a form"),
    pytest.param("ip", "text=10.0.0.1", id="a private network's, in a form"),
    pytest.param("email", r'{"to": "one\nperson@firm.example.com"}', id="behind an escape"),
    pytest.param("mac_address", "ether 0a:23:f5:67:89:ac brd", id="MAC"),
    pytest.param("phone", "ring +44 20 7946 0018", id="international"),
    pytest.param("phone", "call (415) 555-0132", id="national, grouped"),
    pytest.param("phone", "Telefon: 030 1234567", id="national, named"),
    pytest.param("crypto", "send to 16Yeky6GMjeNkAiNcBY7ZhrLoMSgg1BoyZ", id="Bitcoin"),
    pytest.param("crypto", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", id="Bitcoin, bech32"),
    pytest.param("crypto", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", id="Ethereum"),
    pytest.param("pl_pesel", "Polish id 44051401359", id="a country's adjective"),
    pytest.param("it_fiscal_code", "RSSMRA85T10A562S", id="letters in their places"),
    pytest.param("fr_nir", "numéro de sécurité sociale 2 95 10 99 126 111 93", id="beyond ASCII"),
    pytest.param("ru_inn", "ИНН 7707083893", id="Cyrillic"),
    pytest.param("cn_ric", "11010519491231002X", id="a long number with a day in it"),
    pytest.param("medical_license", "DEA number: BB1388568", id="DEA"),
    pytest.param("us_npi", "NPI 1234567893", id="NPI"),
    pytest.param("us_passport", "passport no. 912803456", id="a passport"),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_found(kind: str, text: str, size: int) -> None:
    for padded in (text, "lorem ipsum " * 400 + "\n" + text + "\n" + "dolor sit " * 400):
        assert kind in kinds(padded, size)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("order 536904399 was sent", id="nine digits"),
        pytest.param("SSN: 000-12-3456", id="an area that is not given out"),
        pytest.param("DE89 3704 0044 0532 0130 01 in a line", id="an IBAN with a typing error"),
        pytest.param("apt install name=1.2.3.4 other==52.4.1.9 third>=80.4.1.9", id="releases of packages"),
        pytest.param("2281 2281 2283 and 5078 5077 5077", id="numbers that follow each other"),
        pytest.param("sha256=Mf7BeAXuSRSrfVE4ezsdMryausjPgXs7yJD7lJcKbqw,1629600 sha256=m4DQyRPx15u-kgy6pp-sxDLN07sKfUFBd01LG5LsF88",
                     id="words in hashes"),
        pytest.param("version 10.20.30.40 and Chrome/120.0.6099.109 and 1.2.3.4 of the text", id="versions, sections"),
        pytest.param("std::vector a::b x[::2] 12:34:56 1.2.3.4.5", id="C++, slices, times, OID"),
        pytest.param("user@localhost icon@2x.png @decorator a@b", id="no domain"),
        pytest.param("https://user:word@host.example.com/", id="a password in a URL"),
        pytest.param("2017 2018 2019 2020\n1000 2000 3000 4000 5000", id="rows of numbers"),
        pytest.param("5f3a9c1e-8d2b-4a61-9f0c-1234567890ab", id="a UUID"),
        pytest.param("updated 20260314 for tax", id="a day"),
        pytest.param("sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", id="a hash"),
        pytest.param("using 123456782 since", id="sin within other words"),
        pytest.param('{"t":1732380000123,"id":9007199254740993}', id="times and ids"),
        pytest.param("00:00:00:00:00:00", id="no MAC"),
    ],
)
def test_not_found(text: str) -> None:
    assert not kinds(text + "\n" + "dolor sit amet " * 9)


def test_noise() -> None:
    """Numbers, hexadecimal and base64 without a word hold nothing that would be blocked."""
    dice = random.Random(5)
    floats = " ".join(str(dice.random()) for _ in range(10_000))
    solid = "\n".join(str(dice.randrange(10 ** dice.randrange(4, 14))) for _ in range(20_000))
    for text in (floats, solid, dice.randbytes(1 << 17).hex()):
        assert not [f for f in found(text) if f.kind not in ("pii.ip", "pii.phone")]


WRITTEN = [
    lambda name, value: f"The {name} of the customer is {value}.",
    lambda name, value: json.dumps({"at": 1732.5, name.replace(" ", "_"): value}),
    lambda name, value: f"<{name.replace(' ', '-')}>{value}</{name.replace(' ', '-')}>",
    lambda name, value: f"{name};{value};x",
    lambda name, value: f"{name},{value},x",
    lambda name, value: urlencode({"a": 1, name.replace(" ", ""): value, "z": ""}),
]


@pytest.mark.parametrize("write", WRITTEN, ids=["prose", "JSON", "XML", "CSV ;", "CSV ,", "form"])
@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        pytest.param("us_ssn", "ssn", "536904399", id="ssn"),
        pytest.param("iban", "iban", "DE89370400440532013000", id="iban"),
        pytest.param("de_tax_id", "tax id", "36574261809", id="de_tax_id"),
        pytest.param("br_cpf", "cpf", "39053344705", id="br_cpf"),
        pytest.param("nl_bsn", "bsn", "111222333", id="nl_bsn"),
        pytest.param("in_aadhaar", "aadhaar", "234123412346", id="in_aadhaar"),
        pytest.param("uk_nhs", "nhs", "9434765870", id="uk_nhs"),
        pytest.param("se_personnummer", "personal number", "8803200016", id="se_personnummer"),
    ],
)
def test_in_every_format(write, kind: str, name: str, value: str) -> None:
    assert kind in kinds(write(name, value))
    last = str((int(value[-1]) + 1) % 10)
    assert kind not in kinds(write(name, value[:-1] + last)) or kind == "us_ssn"


def test_alone() -> None:
    """A text that is a number and nothing else may be an identifier: it is reported, and not blocked."""
    verdict = list(heard(Pii().requestviews(request()), b"44051401359\n", 4))[-1]
    assert verdict.action is Action.ALERT
    assert "pii.pl_pesel" in {f.kind for f in verdict.findings}


@pytest.mark.parametrize(
    ("options", "text", "action"),
    [
        pytest.param({}, "SSN 536-90-4399", Action.BLOCK, id="one SSN blocks"),
        pytest.param({}, "a@mail.de", None, id="an e-mail address does not"),
        pytest.param({}, " ".join(f"a{i}@mail.de" for i in range(10)), Action.ALERT, id="ten alert"),
        pytest.param({"minimum": {"email": 2}}, "a@mail.de b@mail.de", Action.ALERT, id="minimum"),
        pytest.param({"kinds": ("email",), "minimum": 1}, "a@mail.de", Action.BLOCK, id="a kind that is named takes the action"),
        pytest.param({"kinds": ("de",)}, "SSN 536-90-4399", None, id="another country"),
        pytest.param({"kinds": ("all", "-us_ssn")}, "Her SSN has always been 536-90-4399", None, id="taken away"),
        pytest.param({"action": "alert"}, "SSN 536-90-4399", Action.ALERT, id="alert"),
        pytest.param({"kinds": ("email",), "minimum": 1, "allow": ("*@our.de",)}, "me@our.de", None, id="our own addresses"),
        pytest.param({"kinds": ("ip",), "minimum": 1, "allow": ("private",)}, "to 192.168.7.7", None, id="private networks"),
    ],
)  # fmt: skip
def test_verdicts(options: dict, text: str, action: Action | None) -> None:
    verdicts = [v.action for v in heard(Pii(**options).requestviews(request()), text.encode(), 7)]
    assert verdicts[-1:] == ([action] if action else [])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param({"kinds": ("us_snn",)}, "us_snn", id="kind"),
        pytest.param({"kinds": ("-all",)}, "none is left", id="nothing"),
        pytest.param({"minimum": [1]}, "expected a number", id="a list of minima"),
        pytest.param({"minimum": {"email": "two"}}, "between", id="a word"),
        pytest.param({"minimum": 0}, "between", id="minimum"),
        pytest.param({"minimum": {"x": 1}}, "no kind", id="kind of a minimum"),
        pytest.param({"regions": ("XX",)}, "XX", id="region"),
        pytest.param({"allow": ("*",)}, "everything", id="allow all"),
        pytest.param({"action": "allow"}, "action", id="action"),
    ],
)
def test_bad_options(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Pii(**options)


def test_groups() -> None:
    assert {"de_tax_id", "de_passport"} <= set(chosen(("de",)))
    assert "us_ssn" not in chosen(("eu",))
    assert "es_nif" in chosen(("eu",))
    assert "date_of_birth" not in chosen(("all",))
    assert chosen(("date_of_birth",)) == ("date_of_birth",)
    assert len({country for country in known().values() if country}) >= 60


def test_both_engines_give_the_same_findings() -> None:
    pytest.importorskip("pyperscan")
    text = "\n".join(case.values[1] for case in FOUND).encode()
    streams = [PatternSet(ALL._patterns.patterns, kind).stream() for kind in (Perscan, Keywords)]
    one, other = ([hit for chunk in cut(text, 999) for hit in stream.feed(chunk)] for stream in streams)
    assert one == other


def test_a_flood_costs_no_more_than_what_it_says() -> None:
    assert len(found("a@mail.de " * 5000, 4096)) <= 210
