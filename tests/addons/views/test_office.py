"""Documents are read as their readers see them: paragraphs, rows, comments, properties."""

import io
import zipfile

import pytest

from addons.views import Tree, sheets
from addons.views.sheets import MAX_WHOLE, Book, Sheet, Strings, number
from tests.addons.conftest import SIZES
from tests.addons.views.collect import Collect, read

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
ODF = 'xmlns:text="t" xmlns:table="b" xmlns:office="o"'


def document(**parts: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)
    return out.getvalue()


def word(body: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<w:document {W}><w:body>{body}</w:body></w:document>'


def run(text: str) -> str:
    return f"<w:r><w:rPr><w:b/></w:rPr><w:t>{text}</w:t></w:r>"


SHEET = (
    f'<?xml version="1.0"?><worksheet {S}><sheetData>'
    '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1"><v>4.111111111111111E+15</v></c></row>'
    '<row r="2"><c r="A2" t="inlineStr"><is><r><t>in</t></r><r><t>line</t></r></is></c><c r="B2"><v>7</v></c></row>'
    '<row r="3"><c r="A3" t="s"><v>1</v></c><c r="B3" t="str"><f>A1</f><v>said</v></c></row>'
    "</sheetData></worksheet>"
)
STRINGS = f'<sst {S}><si><t>Jane &amp; Joe</t></si><si><r><t>rich </t></r><r><t>text</t></r></si></sst>'
ODS = (
    f'<office:document-content {ODF}><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>'
    "<table:table-cell><text:p>b<text:span>c</text:span></text:p></table:table-cell></table:table-row>"
    '<text:p>x<text:s text:c="2"/>y</text:p></office:document-content>'
)

CASES = [
    pytest.param(document(word__document_xml=word(f"<w:p>{run('4111')}{run('1111')}<w:r><w:tab/></w:r>{run('x&#228;')}</w:p>\n<w:p>{run('next')}</w:p>")),
                 "word/document.xml > text", "41111111\txä\nnext\n", id="runs of a paragraph"),
    pytest.param(document(word__document_xml=word(f"<w:tbl><w:tr><w:tc><w:p>{run('a')}</w:p></w:tc><w:tc><w:p>{run('b')}</w:p></w:tc></w:tr></w:tbl>")),
                 "word/document.xml > text", "a \tb \t\n", id="a row of a table"),
    pytest.param(document(word__comments_xml=word(f"<w:p>{run('note')}</w:p>")), "word/comments.xml > text", "note\n", id="comments"),
    pytest.param(document(ppt__slides__slide1_xml=f"<p {A}><a:p><a:r><a:t>one</a:t></a:r><a:r><a:t>two</a:t></a:r></a:p></p>"),
                 "ppt/slides/slide1.xml > text", "onetwo\n\n", id="a slide"),
    pytest.param(document(content_xml=ODS), "content.xml > text", "a \tbc \t\nx  y\n", id="OpenDocument"),
    pytest.param(document(docProps__core_xml="<a><creator>Jane</creator><title>T</title></a>"), "docProps/core.xml > text", "Jane\nT\n\n", id="properties"),
    pytest.param(document(xl__worksheets__sheet1_xml=SHEET), "xl/worksheets/sheet1.xml > text",
                 "\t4111111111111111\t\ninline\t7\t\n\tA1\tsaid\t\n", id="a sheet"),
    pytest.param(document(xl__sharedStrings_xml=STRINGS), "xl/sharedStrings.xml > text", "Jane & Joe\nrich text\n", id="shared strings"),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("data", "path", "text"), CASES)
def test_text(data, path, text, size):
    heard = read(data, size)
    assert not heard.refused
    assert heard.texts[f"body > zip:{path}"].decode() == text


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", [1, -1])
def test_rows_get_their_strings_at_the_end(order, size):
    parts = dict([("xl__worksheets__sheet1_xml", SHEET), ("xl__sharedStrings_xml", STRINGS)][::order])
    heard = read(document(**parts), size)
    assert heard.texts["body > rows"].decode() == "Jane & Joe\t4111111111111111\t\nrich text\tA1\tsaid\t\n"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("text", "reason"), [
    ('<!DOCTYPE a [<!ENTITY b "ccc">]><a>&b;</a>', "entities"),
    ("<a><b></a>", "no XML"),
    ("<a>", "no XML"),
    ("\ufeff<a/>".encode("utf-16-le").decode("latin-1"), "encoding"),
])
def test_odd_parts_are_unscannable(text, reason, size):
    heard = read(document(word__document_xml=text), size)
    assert [why for path, why in heard.refused if reason in why and path.endswith("word/document.xml")]


def test_a_tag_without_end_is_not_kept():
    part = "<a b='" + "".join(map(chr, range(97, 123))) * 200_000       # hardly packed, so that it is no bomb
    heard = read(document(word__document_xml=part))
    assert [why for path, why in heard.refused if "does not end" in why]


def test_one_string_in_many_cells_takes_bounded_memory():
    book = Book()
    book.add("x" * 30_000)
    for _ in range(100_000):
        book.row("\0" + "0\0\t")
    assert MAX_WHOLE <= len(book.whole()) < MAX_WHOLE + 40_000


@pytest.mark.parametrize("size", SIZES)
def test_a_value_that_is_too_long_to_be_kept_is_told_all_the_same(monkeypatch, size):
    monkeypatch.setattr(sheets, "MAX_VALUE", 10)
    cell = "<c t='inlineStr'><is><t>the first words &amp; the last</t></is></c><c><v>7</v></c>"
    heard = read(document(xl__worksheets__sheet1_xml=f"<sheetData><row>{cell}</row></sheetData>"), size)
    assert heard.texts["body > zip:xl/worksheets/sheet1.xml > text"] == b"the first words & the last\t7\t\n"


@pytest.mark.parametrize(("part", "most"), [
    ("<sst><si><t>" + "x" * 3000 + "</t></si></sst>", 200),
    ("<sheetData><row>" + "<c><v>1</v></c>" * 3000 + "</row></sheetData>", 200),
])
def test_what_is_kept_of_a_row_or_a_string_is_bounded(monkeypatch, part, most):
    for name in ("MAX_ROWS", "MAX_STRINGS"):
        monkeypatch.setattr(sheets, name, 100)
    book, root = Book(), Tree(Collect()).root
    reader = (Strings if "si>" in part else Sheet)(root, book)
    for at in range(0, len(part), 50):
        reader.take(part[at : at + 50].encode())
        kept = reader._string if "si>" in part else reader._row
        assert sum(map(len, kept)) <= most


def test_encrypted_open_document():
    text = '<manifest:manifest xmlns:manifest="m"><manifest:file-entry><manifest:encryption-data/></manifest:file-entry></manifest:manifest>'
    assert [why for _, why in read(document(**{"META-INF__manifest_xml": text})).refused if "encrypted" in why]


@pytest.mark.parametrize(("written", "plain"), [
    ("4.1111111111111111E+15", "4111111111111111.1"), ("1E15", "1000000000000000"), ("12.5", "12.5"), ("1E999999", "1E999999"),
    ("EEE", "EEE"), ("5E-3", "0.005"),
])
def test_number(written, plain):
    assert number(written) == plain
