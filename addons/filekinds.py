"""Kinds of files: in groups, by suffix, and two in one.  All is told by what `sniff` is told by, and the name."""

import re
from pathlib import PurePosixPath
from typing import Final

from addons.sniff import ENOUGH

#: Groups of the kinds that `sniff` tells.
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "executable": ("application/pe", "application/elf", "application/mach-o", "application/java-class",
                   "application/jar", "application/wasm", "application/dex", "application/lnk"),
    "archive": ("application/zip", "application/gzip", "application/bzip2", "application/xz", "application/zstd",
                "application/7z", "application/rar", "application/tar", "application/cab", "application/arj",
                "application/lzh", "application/xar", "application/lzip", "application/compress", "application/lz4",
                "application/lzop", "application/lzma", "application/jar"),
    "office": ("application/docx", "application/xlsx", "application/pptx", "application/ooxml", "application/odf",
               "application/ole", "application/rtf", "application/epub"),
    "pdf": ("application/pdf",),
    "image": ("image/",),
    "audio": ("audio/",),
    "video": ("video/",),
    "font": ("font/",),
    "database": ("application/sqlite", "application/parquet", "application/access"),
    "source": ("text/source",),
    "key": ("text/pem",),
}  # fmt: skip
#: Suffixes of program text, and of what else is one of a group by its name alone, where its bytes are text.
_SOURCE: Final = frozenset({
    ".py", ".pyx", ".js", ".mjs", ".ts", ".tsx", ".jsx", ".java", ".kt", ".kts", ".scala", ".c", ".h", ".cc",
    ".cpp", ".cxx", ".hpp", ".cs", ".go", ".rs", ".rb", ".php", ".pl", ".pm", ".lua", ".swift", ".m", ".mm",
    ".vb", ".sh", ".bash", ".ps1", ".psm1", ".bat", ".cmd", ".r", ".jl", ".ex", ".exs", ".erl", ".hs", ".clj",
    ".dart", ".groovy", ".asm", ".s", ".f90", ".pas", ".vhd", ".v",
})  # fmt: skip
_SCRIPTS: Final = frozenset({
    ".sh", ".bash", ".ps1", ".psm1", ".bat", ".cmd", ".vbs", ".vbe", ".js", ".jse", ".wsf", ".hta",
})  # fmt: skip
#: Lines that programs have and prose has not; two different ones make a text a source.
_LINES: Final = re.compile(
    rb"(?m)^[ \t]{0,16}(?:"
    rb"(#include[ \t]*[<\"])|(import [\w.]{1,80}(?: as \w+)?;?\r?$)|(from [\w.]{1,80} import )"
    rb"|((?:async )?def \w{1,60}\()|(package [\w.]{1,80};?\r?$)|(using [\w.]{1,80};)"
    rb"|((?:public|private|protected) [\w<> ]{1,60}[({])|(func \w{1,60}\()|((?:pub )?fn \w{1,60}[<(])"
    rb"|((?:export )?(?:const|let|var) \w{1,60} = )"
    rb"|(class \w{1,60}[(:{ ])|((?:export )?(?:async )?function \w{1,60}\())"
)
_MARKS: Final = (b"#!", b"<?php")

_ZIPS: Final = ("application/zip", "application/jar", "application/docx", "application/xlsx", "application/pptx",
                "application/ooxml", "application/odf", "application/epub")  # fmt: skip
_OFFICE: Final = ("application/docx", "application/ooxml", "application/zip", "application/ole")
#: What files of a suffix begin with; a text may be anything that is not listed.
_SUFFIXES: Final[dict[str, tuple[str, ...]]] = {
    ".jpg": ("image/jpeg",), ".jpeg": ("image/jpeg",), ".png": ("image/png",), ".gif": ("image/gif",),
    ".bmp": ("image/bmp",), ".webp": ("image/webp",), ".tif": ("image/tiff",), ".tiff": ("image/tiff",),
    ".ico": ("image/x-icon", "image/png"), ".heic": ("image/heic",), ".avif": ("image/avif",),
    ".svg": ("image/svg", "text/xml"),
    ".pdf": ("application/pdf",), ".rtf": ("application/rtf",),
    ".docx": _OFFICE, ".xlsx": (*_OFFICE, "application/xlsx"), ".pptx": (*_OFFICE, "application/pptx"),
    ".odt": ("application/odf", "application/zip"), ".ods": ("application/odf", "application/zip"),
    ".zip": _ZIPS, ".jar": _ZIPS, ".epub": _ZIPS, ".apk": _ZIPS,
    ".gz": ("application/gzip",), ".tgz": ("application/gzip",), ".bz2": ("application/bzip2",),
    ".xz": ("application/xz",), ".zst": ("application/zstd",), ".7z": ("application/7z",), ".rar": ("application/rar",),
    ".tar": ("application/tar",),
    ".exe": ("application/pe",), ".dll": ("application/pe",),
    ".mp3": ("audio/",), ".wav": ("audio/wav",), ".flac": ("audio/flac",), ".ogg": ("audio/ogg", "video/"),
    ".mp4": ("video/mp4",), ".avi": ("video/x-msvideo",), ".webm": ("video/webm",), ".mkv": ("video/webm",),
    ".woff": ("font/woff",), ".woff2": ("font/woff2",),
}  # fmt: skip
#: Names under which nothing but text travels.
_TEXTS: Final = _SOURCE | frozenset({
    ".txt", ".csv", ".tsv", ".md", ".json", ".xml", ".html", ".htm", ".css", ".log", ".yaml", ".yml", ".ini",
})  # fmt: skip
#: What a text is not.
_BINARY: Final = ("image/", "audio/", "video/", "font/", "application/")
_TEXT_KINDS: Final = ("application/json", "application/form", "application/postscript", "application/rtf", "image/svg")
#: Kinds that have nothing behind their end; programs that unpack themselves do.
_SINGLE: Final = ("image/", "audio/", "video/", "font/", "application/pdf", "application/rtf", "application/ole")


def groups(kind: str, name: str, head: bytes) -> frozenset[str]:
    """Return the groups that a file is in."""
    found = {group for group, kinds in GROUPS.items() if kind.startswith(kinds)}
    suffix = PurePosixPath(name).suffix.lower()
    if _is_text(kind):
        lines = _LINES.finditer(head[:ENOUGH])
        if head.startswith(_MARKS) or suffix in _SOURCE or len({match.lastindex for match in lines}) > 1:
            found.add("source")
        if head.startswith(b"#!") or suffix in _SCRIPTS:
            found.add("executable")
    return frozenset(found)


def fits(suffix: str, kind: str) -> bool:
    """True if a file with this suffix may be of this kind; true, too, if nobody knows."""
    if kind in ("", "empty"):
        return True
    if suffix in _SUFFIXES:
        return kind.startswith(_SUFFIXES[suffix]) or kind == "data"
    return suffix not in _TEXTS or _is_text(kind) or kind == "data"


def single(kind: str) -> bool:
    """True if a file of this kind is nothing else as well, unless by intention."""
    return kind.startswith(_SINGLE) and kind != "image/svg"


def _is_text(kind: str) -> bool:
    return not kind.startswith((*_BINARY, "data", "empty")) or kind in _TEXT_KINDS


class Zipped:
    """Does a file end as a zip archive (APPNOTE.TXT, 4.3.16)?  It may begin as anything."""

    END: Final = b"PK\5\6"
    LENGTH: Final = 22

    def __init__(self) -> None:
        self._tail = b""
        self._seen = 0
        self._ends: set[int] = set()

    def feed(self, data: bytes) -> bool:
        """Take a piece; true if, after the last one (b""), the file turns out to end so."""
        if not data:
            return self._seen in self._ends
        text = self._tail + data
        base = self._seen - len(self._tail)
        self._seen += len(data)
        at = text.find(self.END)
        while 0 <= at <= len(text) - self.LENGTH:
            self._ends.add(base + at + self.LENGTH + int.from_bytes(text[at + 20 : at + 22], "little"))
            at = text.find(self.END, at + 1)
        self._ends = {end for end in self._ends if end >= self._seen}  # 64 KiB ahead at most
        self._tail = text[-(self.LENGTH - 1) :]
        return False
