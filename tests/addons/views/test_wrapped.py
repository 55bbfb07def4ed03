"""Whatever holds a secret, alone and in pairs, also under the text encodings: it is found, however the body is cut."""

import bz2
import gzip
import itertools
import lzma
import random

import pytest
import zstandard

from tests.addons.views import found_views, test_archives, test_grpc, test_multipart, test_office, test_oldoffice
from tests.addons.views.encoders import TEXTS
from tests.addons.views.test_protobuf import field
from tests.addons.views.test_zips import packed

SECRET = b"ghp_aB3dE5gH7jK9mN1pQ3sT5vX7zA9cD1fG3iJ5"


def mail(data):
    return b"Subject: hello\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=XX\r\n\r\n" + form(data)


def form(data):
    return test_multipart.part(b"a", test_multipart.FIELD) + test_multipart.part(data, 'Content-Disposition: form-data; name="f"; filename="a"') + b"--XX--\r\n"


#: What holds any bytes; what is declared with it is only needed where it is no container to look at.
CONTAINERS = {
    "multipart": form,
    "mail": mail,
    "zip": lambda data: packed({"a": data}),
    "stored": lambda data: packed({"a": data}, 0),
    "streamed": lambda data: packed({"a": data}, 0, stream=True),
    "tar": lambda data: test_archives.tar(0, {"a": data}),
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "behind a picture": lambda data: b"\x89PNG\r\n\x1a\n" + random.Random(3).randbytes(600) + packed({"a": data}),
}
#: What holds text.
DOCUMENTS = {
    "docx": lambda data: test_office.document(word__document_xml=test_office.word(f"<w:p>{test_office.run(data[:20].decode())}{test_office.run(data[20:].decode())}</w:p>")),
    "xlsx": lambda data: test_office.document(xl__sharedStrings_xml=f"<sst><si><t>{data.decode()}</t></si></sst>"),
    "odt": lambda data: test_office.document(content_xml=f"<text:p xmlns:text='t'>{data[:9].decode()}<text:span>{data[9:].decode()}</text:span></text:p>"),
    "doc": lambda data: test_oldoffice.OLE + data.decode().encode("utf-16-le") + bytes(50),
    "rtf": lambda data: b"{\\rtf1 " + data[:15] + b"\\b1 " + data[15:] + b"}",
}
#: Encodings of texts that can carry anything.
CARRIERS = ("base64", "base64url", "mime", "dataurl", "hex")


def found(data, declared=""):
    return [path for path, text in found_views(data, declared) if SECRET in text]


def cuts(data, declared=""):
    return all([path for path, text in found_views(data, declared, size=size) if SECRET in text] for size in (1, 7, 1000))


@pytest.mark.parametrize(("outer", "inner"), [*itertools.product(CONTAINERS, CONTAINERS | DOCUMENTS)])
def test_one_in_the_other(outer, inner):
    data = CONTAINERS[outer]((CONTAINERS | DOCUMENTS)[inner](SECRET))
    assert found(data)
    assert cuts(data)


@pytest.mark.parametrize(("outer", "inner"), [*itertools.product(CONTAINERS, TEXTS)])
def test_text_in_containers(outer, inner):
    data = CONTAINERS[outer](TEXTS[inner][0](b"token: " + SECRET))
    assert found(data)


@pytest.mark.parametrize(("outer", "inner"), [*itertools.product(CARRIERS, CONTAINERS | DOCUMENTS)])
def test_containers_in_text(outer, inner):
    data = TEXTS[outer][0]((CONTAINERS | DOCUMENTS)[inner](b"a token: " + SECRET + b" and more"))
    assert found(data)
    assert cuts(data)


@pytest.mark.parametrize("inner", CONTAINERS | DOCUMENTS)
def test_in_messages_of_a_stream(inner):
    file = (CONTAINERS | DOCUMENTS)[inner](SECRET * 3)
    data = test_grpc.message(field(1, b"name") + field(2, file))
    assert found(data, "application/grpc")
    assert cuts(data, "application/grpc")
