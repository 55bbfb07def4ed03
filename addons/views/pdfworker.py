"""`python -I -O -m addons.views.pdfworker`: reads PDF documents for who started it, and can do nothing else.

Asked on standard input: 8 bytes of length, then a document.  Answers on standard output in frames: a letter, 4 bytes
of length, that much content; `t` the text of a page, `f` what is in form fields, notes and links of a page, `m`
metadata, `n` and `a` name and content of an attached file, `e` why (the rest of) it could not be read, `.` the end.
Numbers are big-endian.  PDFium is large and written in C++: whatever a document makes of this process, it has no
network, opens no file for writing, starts nothing, and is killed by its limits or by who asked.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

#: Seconds of processor time for one document.
PROCESSOR: Final = 20
#: Bytes of address space: the interpreter, PDFium, a document of MAX_DOCUMENT, and what it unpacks to.
MEMORY: Final = 1024 * 1024 * 1024
#: Pages of one document that are read; PDFium reads some 100 a second.
MAX_PAGES: Final = 2000
#: Annotations of one page, attached files of one document.
MAX_NOTES: Final = 2000
MAX_FILES: Final = 200
#: Bytes of one answer.
MAX_ANSWER: Final = 16 * 1024 * 1024

_PR_SET_NO_NEW_PRIVS: Final = 38
_NOTES: Final = (b"Contents\0", b"V\0", b"DV\0", b"RC\0", b"TU\0", b"Subj\0")
Frame = tuple[bytes, bytes]

#: What a document takes to read, other connections must not feel.
NICE: Final = 10


def confine() -> None:
    """Give up what is not needed: the network (in a namespace without any), files, children, to be served first.

    What a system does not let it give up is one bar less of several; a document is read all the same.
    """
    if sys.platform != "linux":
        return
    os.nice(NICE)
    import resource  # not on Windows

    with contextlib.suppress(OSError, AttributeError):
        os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET | os.CLONE_NEWIPC)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    limits = {"AS": MEMORY, "FSIZE": 0, "CORE": 0, "NPROC": 0, "NOFILE": 32}
    for name, limit in limits.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))


def more_time() -> None:
    """Allow for one document more."""
    if sys.platform == "linux":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        with contextlib.suppress(OSError, ValueError):      # who asked has a clock as well
            limit = int(used.ru_utime + used.ru_stime) + PROCESSOR
            resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def wide(call: Callable[..., int], *args: Any) -> str:
    """Return a text of PDFium, whose functions say how long it is if they get no place for it."""
    import pypdfium2.raw as pdfium

    size = call(*args, None, 0)
    if not 2 < size <= MAX_ANSWER:
        return ""
    buffer = ctypes.create_string_buffer(size)
    call(*args, ctypes.cast(buffer, ctypes.POINTER(pdfium.FPDF_WCHAR)), size)
    return buffer.raw[: size - 2].decode("utf-16-le", "replace")


def notes(document: Any, page: Any) -> Iterator[Frame]:
    """Yield what annotations of a page hold: form fields, notes, addresses of links, files."""
    import pypdfium2
    import pypdfium2.raw as pdfium

    texts, count = [], pdfium.FPDFPage_GetAnnotCount(page)
    if count > MAX_NOTES:
        yield b"e", f"a PDF document with more than {MAX_NOTES} notes on a page".encode()
    for index in range(min(count, MAX_NOTES)):
        note = pdfium.FPDFPage_GetAnnot(page, index)
        if not note:
            continue
        texts += [wide(pdfium.FPDFAnnot_GetStringValue, note, key) for key in _NOTES]
        if document.formenv:
            texts.append(wide(pdfium.FPDFAnnot_GetFormFieldValue, document.formenv, note))
        if link := pdfium.FPDFAnnot_GetLink(note):
            texts.append(_address(document, pdfium.FPDFLink_GetAction(link)))
        if raw := pdfium.FPDFAnnot_GetFileAttachment(note):
            yield from _file(pypdfium2.PdfAttachment(raw, document))
        pdfium.FPDFPage_CloseAnnot(note)
    if found := "\n".join(dict.fromkeys(filter(None, texts))):
        yield b"f", found.encode("utf-8", "replace")


def _address(document: Any, action: Any) -> str:
    import pypdfium2.raw as pdfium

    size = pdfium.FPDFAction_GetURIPath(document, action, None, 0) if action else 0
    if not 0 < size <= MAX_ANSWER:
        return ""
    buffer = ctypes.create_string_buffer(size)
    pdfium.FPDFAction_GetURIPath(document, action, buffer, size)
    return buffer.value.decode("utf-8", "replace")


def _file(attachment: Any) -> Iterator[Frame]:
    import pypdfium2

    try:
        data = bytes(attachment.get_data())
    except pypdfium2.PdfiumError as error:
        if "no data" not in str(error):     # a file that is empty, or only named
            yield b"e", b"an attached file that cannot be read, in a PDF document"
        return
    yield b"n", attachment.get_name().encode("utf-8", "replace")
    yield b"a", data


def frames(data: bytes) -> Iterator[Frame]:
    """Yield what is in a document."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        encrypted = "password" in str(error).lower() or "security" in str(error).lower()
        yield b"e", b"an encrypted PDF document" if encrypted else b"a PDF document that cannot be opened"
        return
    with contextlib.suppress(pypdfium2.PdfiumError):        # fields have their values among the notes, too
        document.init_forms()
    if told := "\n".join(filter(None, document.get_metadata_dict().values())):
        yield b"m", told.encode("utf-8", "replace")
    for index in range(min(document.count_attachments(), MAX_FILES)):
        yield from _file(document.get_attachment(index))
    for index in range(min(len(document), MAX_PAGES)):
        try:
            page = document.get_page(index)
            text = page.get_textpage().get_text_range(errors="replace")
        except pypdfium2.PdfiumError:
            yield b"e", f"page {index + 1} of a PDF document cannot be read".encode()
            continue
        yield b"t", text.encode("utf-8", "replace")
        yield from notes(document, page)
        page.close()
    if len(document) > MAX_PAGES or document.count_attachments() > MAX_FILES:
        yield b"e", f"a PDF document of more than {MAX_PAGES} pages or {MAX_FILES} files".encode()


def answer(data: bytes, out: BinaryIO) -> None:
    """Write the frames of one document."""
    sent = 0
    try:
        for kind, content in frames(data):
            sent += len(content)
            if sent > MAX_ANSWER:
                _write(out, b"e", f"a PDF document that holds more than {MAX_ANSWER >> 20} MiB".encode())
                break
            _write(out, kind, content)
    except MemoryError:
        _write(out, b"e", b"a PDF document that takes too much memory")
    except (ValueError, RuntimeError, OSError, ctypes.ArgumentError) as error:
        _write(out, b"e", f"a PDF document that cannot be read: {type(error).__name__}".encode())
    _write(out, b".", b"")
    out.flush()


def _write(out: BinaryIO, kind: bytes, content: bytes) -> None:
    out.write(kind + len(content).to_bytes(4) + content)


def main() -> None:
    """Answer until standard input ends."""
    import pypdfium2  # noqa: F401 - before the limits on files hold

    confine()
    while len(head := sys.stdin.buffer.read(8)) == 8:
        more_time()
        answer(sys.stdin.buffer.read(int.from_bytes(head)), sys.stdout.buffer)


if __name__ == "__main__":
    main()
