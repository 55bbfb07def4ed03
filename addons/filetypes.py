"""Files that go out or come in, by what they are and not by what they are called."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Final

from mitmproxy import http

from addons import filekinds
from addons.filekinds import GROUPS, Zipped
from addons.sniff import ENOUGH, mismatch
from addons.verdict import Action, BodyScanner, Finding, Verdict, ViewScanner
from addons.views import View

#: What `encrypted` and `mismatch` may say; `action` too, without the first.  A file is not redacted.
_ANSWERS: Final = ("allow", "alert", "block", "kill")
_DIRECTIONS: Final = ("upload", "download", "both")
#: The name under which encrypted Office documents keep everything ([MS-OFFCRYPTO], 2.3.4.4), in UTF-16.
_ENCRYPTED_OFFICE: Final = "EncryptedPackage".encode("utf-16-le")


@dataclass
class FileTypes:
    """Files in uploads and downloads, in archives, forms and documents too, told by their first bytes.

    `kinds` are groups (`executable archive office pdf image audio video font database source key`) or kinds as
    `application/x*` or `image/png`; none means any file.  Those that are `larger_than` so many bytes (0: all) lead to
    `action`.  `direction` is `upload`, `download` or `both`.  `encrypted` answers archives and documents that only
    their password opens, `mismatch` files that are not what their name or declared type says, or two things at once.
    """

    kinds: tuple[str, ...] = ()
    larger_than: int = 0
    direction: str = "upload"
    encrypted: str = "allow"
    mismatch: str = "allow"
    action: str = "block"

    def __post_init__(self) -> None:
        if self.direction not in _DIRECTIONS:
            raise ValueError(f"direction: {self.direction!r} is none of {', '.join(_DIRECTIONS)}")
        answers = (("action", self.action, _ANSWERS[1:]), ("encrypted", self.encrypted, _ANSWERS),
                   ("mismatch", self.mismatch, _ANSWERS))  # fmt: skip
        for name, value, known in answers:
            if value not in known:
                raise ValueError(f"{name}: {value!r} is none of {', '.join(known)}")
        if self.larger_than < 0:
            raise ValueError("larger_than: a size is not negative")
        if unknown := [kind for kind in self.kinds if "/" not in kind and kind not in GROUPS]:
            raise ValueError(f"kinds: {unknown[0]!r} is none of {', '.join(GROUPS)}, nor a kind as image/png")
        if not self.kinds and not self.larger_than and self.encrypted == self.mismatch == "allow":
            raise ValueError("kinds, larger_than, encrypted, mismatch: one of them, please; else nothing is looked for")

    def requestviews(self, flow: http.HTTPFlow) -> ViewScanner | None:
        return _Message(self, "upload") if self.direction != "download" else None

    def responseviews(self, flow: http.HTTPFlow) -> ViewScanner | None:
        return _Message(self, "download") if self.direction != "upload" else None

    def wants(self, kind: str, groups: frozenset[str]) -> bool:
        """Is it one of `kinds`?"""
        return any(each in groups or fnmatchcase(kind, each) for each in self.kinds)


class _Message:
    """All views of one message."""

    def __init__(self, rule: FileTypes, way: str) -> None:
        self._rule, self._way = rule, way
        self._encrypted: set[str] = set()  # views of which that was said

    def opened(self, view: View) -> BodyScanner | None:
        return _File(self._rule, self._way, view, self._encrypted)

    def unscannable(self, view: View, reason: str) -> Verdict | None:
        """What cannot be read for other reasons than a password is the business of others."""
        if self._rule.encrypted == "allow" or "encrypted" not in reason or view.path in self._encrypted:
            return None
        self._encrypted.add(view.path)
        return _verdict(self._rule.encrypted, f"{reason} in the {self._way}: {view.path}", view, view.kind, 0)


class _File:
    """One view.  Each thing is said of it once."""

    def __init__(self, rule: FileTypes, way: str, view: View, encrypted: set[str]) -> None:
        self._rule, self._way, self._view, self._said_encrypted = rule, way, view, encrypted
        self._size = 0
        self._tail = b""
        self._zipped = Zipped()
        self._checks: list[Callable[[bytes], Verdict | None]] = [self._kind, self._encrypted, self._mismatch]
        self._groups: frozenset[str] | None = None

    def __call__(self, data: bytes) -> Verdict | None:
        if self._groups is None:  # the first piece has what the kind was told by
            self._groups = filekinds.groups(self._view.kind, self._view.name, data)
        self._size += len(data)
        said = [verdict for check in tuple(self._checks) if (verdict := check(data))]
        return max(said, key=lambda verdict: _ANSWERS.index(verdict.action), default=None)

    def _kind(self, _data: bytes) -> Verdict | None:
        rule, view, groups = self._rule, self._view, self._groups or frozenset()
        whole = not rule.kinds and (view.parent is None or bool(view.name))
        if not (whole and rule.larger_than) and not rule.wants(view.kind, groups):
            self._checks.remove(self._kind)
            return None
        if self._size <= rule.larger_than:
            return None
        self._checks.remove(self._kind)
        size = f" of more than {rule.larger_than} bytes" if rule.larger_than else ""
        reason = f"a file of kind {view.kind}{size} in the {self._way}: {view.path}"
        return _verdict(rule.action, reason, view, view.kind, self._size)

    def _encrypted(self, data: bytes) -> Verdict | None:
        rule, view = self._rule, self._view
        text = self._tail + data
        self._tail = text[-len(_ENCRYPTED_OFFICE) :]
        if rule.encrypted == "allow" or view.kind not in ("application/ole", "text/pem"):
            self._checks.remove(self._encrypted)
            return None
        if view.kind == "text/pem":
            self._checks.remove(self._encrypted)
            if not text.startswith(b"-----BEGIN PGP MESSAGE"):
                return None
        elif _ENCRYPTED_OFFICE not in text:
            return None
        else:
            self._checks.remove(self._encrypted)
        if view.path in self._said_encrypted:
            return None
        self._said_encrypted.add(view.path)
        return _verdict(rule.encrypted, f"an encrypted document in the {self._way}: {view.path}", view, view.kind, 0)

    def _mismatch(self, data: bytes) -> Verdict | None:
        """A name or type that lies is told at once, a second thing in the file when it comes."""
        rule, view = self._rule, self._view
        if rule.mismatch == "allow":
            self._checks.remove(self._mismatch)
            return None
        what = ""
        if self._size == len(data):
            suffix = PurePosixPath(view.name).suffix.lower()
            if not filekinds.fits(suffix, view.kind):
                what = f"{suffix} that is {view.kind}"
            elif mismatch(view.declared, view.kind):
                what = f"{view.declared[:60]} that is {view.kind}"
        if not what and filekinds.single(view.kind):
            if self._size == len(data) and data.find(b"%PDF-", 0, ENOUGH) > 0:
                what = f"{view.kind} that is a PDF document, too"
            elif self._zipped.feed(data):
                what = f"{view.kind} that is a zip archive, too"
        if not what:
            return None
        self._checks.remove(self._mismatch)
        return _verdict(rule.mismatch, f"a file that is not what it says in the {self._way}: {what}: {view.path}",
                        view, what, self._size)  # fmt: skip


def _verdict(answer: str, reason: str, view: View, what: str, size: int) -> Verdict:
    finding = Finding(what, "file", view.path, 0, size, view.kind)
    return Verdict(Action(answer), reason, (finding,))
