"""Getting a list anew: over https alone, bounded, checked, and put in place whole or not at all."""

import hashlib
import http.client
import json
import os
import re
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Bytes of a list; the largest in use have 30 MB.
MAX_BYTES = 64 * 2**20
#: Seconds for all of it, and for each read: a server that trickles must not hold an update for ever.
TOTAL, WAIT = 300, 30
#: A list that has shrunk below this share is more likely damaged than better.
SHRUNK = 0.5
#: Beginnings of what is no list: an error page, or something compressed.
_PAGE = re.compile(rb"\s*(?:<!doctype|<html|<\?xml|<head|<body)|\x1f\x8b|PK\x03\x04", re.IGNORECASE)
#: Bytes read at once.
_CHUNK = 65536

type Progress = Callable[[int, int], None]


class Refused(Exception):
    """What came is not taken; the message says why."""


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request: Any, *rest: Any) -> Any:
        if not rest[-1].lower().startswith("https://"):
            raise Refused(f"it leads to {rest[-1][:200]}, which is not https")
        return super().redirect_request(request, *rest)


def update(file: Path, url: str, sha256: str = "", *, force: bool = False, progress: Progress | None = None,
           context: ssl.SSLContext | None = None) -> str:
    """Get a list if it has changed; return what was done, in words.  Raises Refused and OSError; the old one stays.

    What the server said of its version (ETag, Last-Modified) is kept beside the list, as `.NAME.source`.
    """
    if not url.lower().startswith("https://"):
        raise Refused(f"{url[:200]} is not https")
    note = file.with_name(f".{file.name}.source")
    known = _known(note, file, url)
    try:
        data, headers = _fetch(url, known, progress, context)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 304:
            file.touch()
            return "unchanged"
        raise Refused(f"the server answered {error.code} {error.reason}") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        raise Refused(f"{url[:200]}: {getattr(error, 'reason', None) or error or type(error).__name__}") from None
    _check(data, file, sha256, force)
    _place(file, data)
    _place(note, json.dumps({"url": url, "sha256": hashlib.sha256(data).hexdigest(), **headers}).encode())
    return f"updated, {len(data):,} bytes"


def _known(note: Path, file: Path, url: str) -> dict[str, str]:
    """Return the fields that ask for a newer version only, if the list is still the one that came."""
    try:
        last = json.loads(note.read_bytes())
        if last["url"] != url or last["sha256"] != hashlib.sha256(file.read_bytes()).hexdigest():
            return {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    pairs = (("If-None-Match", last.get("etag")), ("If-Modified-Since", last.get("last-modified")))
    return {name: str(value) for name, value in pairs if value}


def _fetch(url: str, known: dict[str, str], progress: Progress | None,
           context: ssl.SSLContext | None) -> tuple[bytes, dict[str, str]]:
    fields = {"User-Agent": "lockgate", "Accept": "text/plain, */*;q=0.5", **known}
    request = urllib.request.Request(url, headers=fields)  # noqa: S310  # `update` has seen that it is https
    https = urllib.request.HTTPSHandler(context=context or ssl.create_default_context())
    until, data = time.monotonic() + TOTAL, bytearray()
    with urllib.request.build_opener(_OnlyHttps, https).open(request, timeout=WAIT) as answer:
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else 0
        while piece := answer.read1(_CHUNK):
            data += piece
            if len(data) > MAX_BYTES:
                raise Refused(f"it is larger than {MAX_BYTES} bytes")
            if time.monotonic() > until:
                raise Refused(f"it did not come within {TOTAL} seconds")
            if progress:
                progress(len(data), total)
        if total and len(data) != total:
            raise Refused(f"only {len(data)} of {total} bytes came")
        return bytes(data), {name: answer.headers[name] for name in ("etag", "last-modified") if answer.headers[name]}


def _check(data: bytes, file: Path, sha256: str, force: bool) -> None:
    if sha256 and hashlib.sha256(data).hexdigest() != sha256.lower():
        raise Refused("its SHA-256 is not the one that the policy pins")
    if _PAGE.match(data) or b"\0" in data:
        raise Refused("what came is a page or an archive, not a list")
    if not data.strip():
        raise Refused("what came is empty")
    try:
        before = file.stat().st_size
    except OSError:
        return
    if len(data) < SHRUNK * before and not force and not sha256:
        raise Refused(f"it has shrunk from {before:,} to {len(data):,} bytes; --force takes it all the same")


def _place(file: Path, data: bytes) -> None:
    """Write a file whole or not at all, with the rights of the one before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".", delete=False) as new:
        try:
            new.write(data)
            new.flush()
            os.fsync(new.fileno())
            Path(new.name).chmod(mode)
            Path(new.name).replace(file)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise
