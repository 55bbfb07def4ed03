"""What a body is, by its first bytes: the content kinds of the `content:` labels."""

import re
from typing import Final

#: Bytes needed to tell; tar's mark is at 257.
ENOUGH: Final = 512

#: Kind, and the bytes at an offset, from each format's specification.
SIGNATURES: Final[tuple[tuple[str, int, bytes], ...]] = (
    ("image/png", 0, b"\x89PNG\r\n\x1a\n"),
    ("image/jpeg", 0, b"\xff\xd8\xff"),
    ("image/gif", 0, b"GIF8"),
    ("image/webp", 8, b"WEBP"),
    ("image/bmp", 0, b"BM"),
    ("image/tiff", 0, b"II*\0"),
    ("image/tiff", 0, b"MM\0*"),
    ("image/x-icon", 0, b"\0\0\1\0"),
    ("image/avif", 4, b"ftypavif"),
    ("image/heic", 4, b"ftyphei"),
    ("audio/mpeg", 0, b"ID3"),
    ("audio/ogg", 0, b"OggS"),
    ("audio/flac", 0, b"fLaC"),
    ("audio/wav", 8, b"WAVE"),
    ("video/mp4", 4, b"ftyp"),
    ("video/webm", 0, b"\x1aE\xdf\xa3"),
    ("video/x-msvideo", 8, b"AVI "),
    ("video/x-flv", 0, b"FLV\1"),
    ("font/woff", 0, b"wOFF"),
    ("font/woff2", 0, b"wOF2"),
    ("font/otf", 0, b"OTTO"),
    ("font/ttf", 0, b"\0\1\0\0\0"),
    ("application/pdf", 0, b"%PDF-"),
    ("application/postscript", 0, b"%!PS"),
    ("application/rtf", 0, b"{\\rtf"),
    ("application/ole", 0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    ("application/zip", 0, b"PK\3\4"),
    ("application/zip", 0, b"PK\5\6"),
    ("application/gzip", 0, b"\x1f\x8b\x08"),
    ("application/bzip2", 0, b"BZh"),
    ("application/xz", 0, b"\xfd7zXZ\0"),
    ("application/zstd", 0, b"\x28\xb5\x2f\xfd"),
    ("application/7z", 0, b"7z\xbc\xaf\x27\x1c"),
    ("application/rar", 0, b"Rar!\x1a\7"),
    ("application/cab", 0, b"MSCF\0\0\0\0"),
    ("application/arj", 0, b"\x60\xea"),
    ("application/lzh", 2, b"-lh"),
    ("application/xar", 0, b"xar!"),
    ("application/lzip", 0, b"LZIP\1"),
    ("application/compress", 0, b"\x1f\x9d"),
    ("application/lz4", 0, b"\x04\x22\x4d\x18"),
    ("application/lzop", 0, b"\x89LZO\0\r\n\x1a\n"),
    ("application/lzma", 0, b"\x5d\0\0"),
    ("application/age", 0, b"age-encryption.org/v1\n"),
    ("application/openssl-encrypted", 0, b"Salted__"),
    ("application/tar", 257, b"ustar"),
    ("application/sqlite", 0, b"SQLite format 3\0"),
    ("application/wasm", 0, b"\0asm"),
    ("application/elf", 0, b"\x7fELF"),
    ("application/mach-o", 0, b"\xcf\xfa\xed\xfe"),
    ("application/mach-o", 0, b"\xce\xfa\xed\xfe"),
    ("application/dex", 0, b"dex\n03"),
    ("application/lnk", 0, b"\x4c\0\0\0\1\x14\2\0"),
    ("application/access", 4, b"Standard Jet DB"),
    ("application/access", 4, b"Standard ACE DB"),
    ("application/java-class", 0, b"\xca\xfe\xba\xbe"),
    ("application/parquet", 0, b"PAR1"),
    ("application/pe", 0, b"MZ"),
    ("text/pem", 0, b"-----BEGIN "),
)
#: What must follow a signature that is short, or may begin a text: what begins so by chance is no damaged archive.
#: RFC 1952, 2.3.1; bzip2's and compress' sources; ARJ's and LHA's technical notes; the LZMA SDK's lzma.txt.
_FORMS: Final = {
    "application/gzip": re.compile(rb"...[\0-\x1f]", re.DOTALL),
    "application/bzip2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
    "application/compress": re.compile(rb"..[\x09-\x10\x89-\x90]", re.DOTALL),
    "application/arj": re.compile(rb"...[\0-\x0a][\x1e-\x40]", re.DOTALL),
    "application/lzh": re.compile(rb"..-l[hz][\dds]-", re.DOTALL),
    "application/lzma": re.compile(rb"\x5d\0\0(?:[\x01-\x04\x06\x08\x0c\x10\x18\x20\x30\x40\x60\x80\xc0]\0"
                                   rb"|\0[\x01-\x04\x06\x08\x0c\x10\x18\x20\x30\x40\x60\x80\xc0])"
                                   rb"(?:\xff{8}|....[\0-\x3f]\0{3})", re.DOTALL),
    "application/xar": re.compile(rb"xar!\0"),
    "application/openssl-encrypted": re.compile(rb"Salted__[\t\n\r -~]{0,100}+[^\t\n\r -~]"),
}
#: Bytes that these need.
_FORM: Final = 16
#: A signature of so few letters may also begin a text, such as "BMW".
_SHORT: Final = 3
#: The inside of a zip that tells what it is: the name of its first entry.
_ZIPS: Final = (
    (b"word/", "application/docx"),
    (b"xl/", "application/xlsx"),
    (b"ppt/", "application/pptx"),
    (b"mimetypeapplication/vnd.oasis.opendocument", "application/odf"),
    (b"mimetypeapplication/epub+zip", "application/epub"),
    (b"META-INF/", "application/jar"),
    (b"[Content_Types].xml", "application/ooxml"),
)
_WORD: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
#: Kind, the bytes that it may begin with, and its form.
_TEXTS: Final = (
    ("text/html", b"<", re.compile(rb"(?i)<(?:!doctype html|html|head|body|script|title|div|p|h1)[\s>]")),
    ("image/svg", b"<", re.compile(rb"(?i)(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?<svg[\s>]")),
    ("text/xml", b"<", re.compile(rb"<\?xml\s|<[A-Za-z][\w:.-]*[\s/>]")),
    ("application/json", b"{[", re.compile(rb"""\{\s*(?:"|\}|$)|\[\s*(?:["{\[\]\d-]|true|false|null|$)""")),
    ("application/form", _WORD + b".%+[]-", re.compile(rb"[\w.%+\[\]-]{1,64}=[^\s<>{}]*(?:&|$)")),
    ("multipart/form-data", b"-", re.compile(rb"--[\w'()+,./:=?-]{1,70}\r\n[\w-]{1,60}:")),
)
_CONTROL: Final = bytes((*range(9), *range(0x0E, 0x1B), *range(0x1C, 0x20)))

#: Declared types under which a sniffed kind may travel, by the parts of the type that say so.
_DECLARED: Final = {
    "application/zip": ("zip", "officedocument", "opendocument", "epub", "jar", "java-archive", "apk", "android"),
    "application/ole": ("msword", "ms-excel", "ms-powerpoint", "ms-office", "msi"),
    "application/pe": ("msdownload", "dosexec", "portable-executable", "x-exe"),
    "application/elf": ("executable", "sharedlib"),
    "application/gzip": ("gzip", "tgz", "x-tar", "gtar"),
    "application/bzip2": ("bzip",),
    "application/form": ("x-www-form-urlencoded",),
    "application/docx": ("officedocument", "zip", "macroenabled"),
    "application/xlsx": ("officedocument", "zip", "macroenabled"),
    "application/pptx": ("officedocument", "zip", "macroenabled"),
    "application/ooxml": ("officedocument", "zip", "macroenabled"),
    "application/odf": ("opendocument", "zip"),
    "application/jar": ("jar", "java-archive", "zip", "android"),
}
#: A declaration that claims nothing.
_VAGUE: Final = ("", "application/octet-stream", "binary/octet-stream", "application/x-binary", "*/*")


#: The signatures and texts by the byte that a body begins with: few are left to compare.
_BY_FIRST: Final = tuple(
    tuple(entry for entry in SIGNATURES if entry[1] or entry[2][0] == first) for first in range(256)
)
_TEXTS_BY_FIRST: Final = tuple(
    tuple((name, form) for name, begins, form in _TEXTS if first in begins) for first in range(256)
)


def kind(head: bytes) -> str:
    """Return the kind of a body with these first bytes; `data` if they tell nothing."""
    for name, offset, magic in _BY_FIRST[head[0]] if head else ():
        if head.startswith(magic, offset) and (len(magic) > _SHORT or _is_data(head)) \
                and (name not in _FORMS or len(head) < _FORM or _FORMS[name].match(head)):
            return _zip(head) if name == "application/zip" else name
    if not head:
        return "empty"
    text = head[:ENOUGH].removeprefix(b"\xef\xbb\xbf").lstrip()
    if _is_data(text):
        return "data"
    for name, form in _TEXTS_BY_FIRST[text[0]] if text else ():
        if form.match(text):
            return name
    return "text/plain"


def _is_data(head: bytes) -> bool:
    """True if it has control characters that stand in no text."""
    return len(head.translate(None, _CONTROL)) != len(head)


def mismatch(declared: str, sniffed: str) -> bool:
    """True if a Content-Type claims something that the bytes are not; text under any text type is no mismatch."""
    declared = declared.partition(";")[0].strip().lower()
    if declared in _VAGUE or sniffed in ("data", "empty"):
        return False
    if _is_text(sniffed):
        return declared.startswith(("image/", "audio/", "video/", "font/")) and not declared.endswith("+xml")
    family, _, name = sniffed.partition("/")
    if family in ("image", "audio", "video", "font"):
        return not declared.startswith((family, "application/font", "application/ogg", "video/", "application/mp4"))
    return not any(word in declared for word in _DECLARED.get(sniffed, (name,)))


def _is_text(sniffed: str) -> bool:
    return sniffed.startswith(("text/", "multipart/")) or sniffed in (
        "application/json",
        "application/form",
        "image/svg",
    )


def _zip(head: bytes) -> str:
    return next((name for inside, name in _ZIPS if head.startswith(inside, 30)), "application/zip")
