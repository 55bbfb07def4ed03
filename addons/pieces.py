"""Is a request a piece of a larger upload?  Then what is cut in it is not damaged, and goes on in another request.

A piece says so: RFC 9110, 14.4 (Content-Range: Google, Microsoft), tus 1.0.0, the IETF's resumable uploads, and what
Amazon S3, Azure and Dropbox document.  Nobody checks that; so it excuses what is missing, and nothing else.
"""

import re
from typing import Final

from mitmproxy import http

_RANGE: Final = re.compile(r"bytes\s+(\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_BLOCKS: Final = ("block", "appendblock", "page")
#: Dropbox' upload sessions.
_PATH: Final = re.compile(r"/upload_session/(?:start|append|finish)")
#: What is said of data that do not go on.
_MISSING: Final = re.compile(r"cut short|without its directory|is no XML: no element found|PDF document that cannot be")


def is_piece(message: http.Message, path: str = "") -> bool:
    """True if what a message carries is said not to be whole; `path` is a request's, with its query."""
    headers = message.headers
    if given := _RANGE.fullmatch(headers.get("content-range", "").strip()):
        first, last, size = given.groups()
        return not (int(first) == 0 and size.isdecimal() and int(last) + 1 >= int(size))
    return ("upload-offset" in headers or headers.get("upload-complete", "") == "?0"
            or "upload" in headers.get("x-goog-upload-command", "")
            or _PATH.search(path) is not None or _is_part(path.partition("?")[2]))


def _is_part(query: str) -> bool:
    """S3's UploadPart, Azure's Put Block, Append Block and Put Page."""
    fields = dict(part.partition("=")[::2] for part in query.split("&"))
    return ("uploadId" in fields and fields.get("partNumber", "").isdecimal()) or fields.get("comp") in _BLOCKS


def is_missing(reason: str) -> bool:
    """True if all that cannot be read is what does not come."""
    return _MISSING.search(reason) is not None
