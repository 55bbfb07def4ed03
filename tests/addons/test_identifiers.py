"""The table of identifiers: each check takes what its issuer would give out, in every form, and little else."""

import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from addons import identifiers
from addons.pii import Pii

TABLE = identifiers.load()
#: Kinds whose form is all that there is to check.
LOOSE = 0.45


def sample(form: str, dice: random.Random) -> str:
    """Return a random text of a form of the table's own notation."""
    made = []
    for part in re.findall(r"\[[^]]*\]\??|\{[^}]*\}|\\.|\(\?:[^)]*\)\??|.", form):
        optional, part = part.endswith("?") and len(part) > 1, part.rstrip("?") if len(part) > 1 else part
        if part.startswith("{"):
            low = int(re.match(r"\{(\d+)", part)[1])
            made += [made[-1] if not made[-1].isdigit() else dice.choice("0123456789") for _ in range(low - 1)]
        elif part.startswith("("):
            made.append("" if optional else sample(part[3:-1], dice))
        elif part.startswith("["):
            made.append(dice.choice([chr(c) for c in range(32, 127) if re.fullmatch(part, chr(c))]))
        elif part == "?":
            continue
        else:
            made.append({"9": dice.choice("0123456789"), "A": dice.choice("ABCDEFGHJKLMNPRSTVWXYZ"), "_": "", "X": dice.choice("0123456789")}.get(part, part[-1]))
    return "".join(made)


CASES = [
    (kind, form.removeprefix("!"), form.startswith("!"))
    for kind, row in identifiers.rows().items()
    for form in row["forms"]
    if "re:" not in form
]


def valid(kind: str, form: str, dice: random.Random, own: bool) -> str | None:
    """Return a value of the form whose check is right, found by trying."""
    each = TABLE[kind]
    expression = re.compile(b"(?:" + identifiers.expression(form) + b")")
    for _ in range(20_000):
        text = sample(form, dice)
        if expression.fullmatch(text.encode()) and each.valid(text.encode()):
            return text
    return None


@pytest.mark.parametrize(("kind", "form", "own"), CASES, ids=[f"{kind} {form}" for kind, form, _ in CASES])
def test_valid_ones_are_found(kind: str, form: str, own: bool) -> None:
    dice = random.Random(kind + form)
    for size in (1, 7, 4096):
        value = valid(kind, form, dice, own)
        if value is None:
            pytest.skip("none came up by chance")
        word = (TABLE[kind].words or ("id",))[0]
        text = (f"so {value} it is; " if own else f"the {word}: {value} it is; ") + "and more of it " * 9
        finder = WHOLE.scanner()
        data = text.encode()
        hits = [f for at in range(0, len(data), size) for f in finder.feed(data[at : at + size])] + finder.feed(b"")
        assert kind in {f.rule for f in hits}, text


WHOLE = Pii(kinds=tuple(TABLE), minimum=1)


@pytest.mark.parametrize("kind", [kind for kind, row in identifiers.rows().items() if "check" in row and not row.get("optional")])
def test_a_check_refuses_most(kind: str) -> None:
    """Of random texts of its forms, a check takes at most about one in two (one in ten and fewer, where digits check)."""
    dice = random.Random(kind)
    forms = [form.removeprefix("!") for form in identifiers.rows()[kind]["forms"] if "re:" not in form]
    if not forms or kind in ("us_ssn", "us_itin", "us_driver_license", "us_bank_number", "uk_passport", "de_fuehrerschein",
                             "de_bsnr", "de_plz", "uk_nino", "in_pan", "in_aadhaar", "bic", "us_ein", "us_ptin", "us_atin",
                             "de_vat_id", "pe_cui", "cr_cpf", "tr_license_plate", "kr_driver_license", "ar_dni", "de_tax_number",
                             "de_id_card", "fi_veronumero", "al_nipt", "ad_nrt", "eg_tn", "dz_nif", "ke_pin", "pk_cnic"):
        pytest.skip("its form says most")
    texts = [sample(form, dice) for form in forms for _ in range(300)]
    assert sum(TABLE[kind].valid(text.encode()) for text in texts) / len(texts) < LOOSE


def test_expression() -> None:
    assert identifiers.expression("99-9A_X") == rb"\d\d-\d[A-Z][ ./-]?[0-9A-Z]"
    assert identifiers.expression(r"re:\d{3}") == rb"\d{3}"


@given(data=st.data())
@settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_no_check_stumbles(data: st.DataObject) -> None:
    """Whatever a form matches, its check has an answer."""
    each = TABLE[data.draw(st.sampled_from(sorted(TABLE)))]
    forms = data.draw(st.sampled_from([forms for forms in (each.own, each.named) if forms]))
    whole = re.compile(b"(?:" + forms.replace(b"(?-i:", b"(?:") + b")")
    assert each.valid(data.draw(st.from_regex(whole, fullmatch=True))) in (True, False)


def test_what_stdnum_stumbles_over_is_refused() -> None:
    assert TABLE["cn_ric"].valid(b"110000190001010000") is False


def test_unknown_check() -> None:
    with pytest.raises(ValueError, match="unknown"):
        identifiers.check("nonsense")


@pytest.mark.parametrize(
    ("text", "start", "may"),
    [(b"1", 0, True), (b" 1", 1, True), (b"a1", 1, False), (b"\\n1", 2, True), (b"%221", 3, True), (b"-1", 1, True), (b"2-1", 2, False),
     (b"$1", 1, False), (b"2.1", 2, False), (b"No.1", 3, False), (b"2/1", 2, False), (b"a/1", 2, True), (b",1", 1, True)],
)  # fmt: skip
def test_begins(text: bytes, start: int, may: bool) -> None:
    assert identifiers.begins(text, start) is may
