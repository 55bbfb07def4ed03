"""The filter author's package: what a filter is, what it may say, and the filters that come with lockgate.

Theory of operation.  A filter is any object with mitmproxy's hook names; its options are its dataclass fields.  It
decides and does not enforce: a hook may return a `Verdict`, made by `allow`, `alert`, `redact`, `block` or `kill`, and
None means "no opinion".  The chain calls the filters in the order of the policy; the first that allows, blocks or kills
ends it, and what a filter raises counts as the rule's `on_error`.

Hooks: `connection(conn)` before anything is dialled; `requestheaders(flow)`, `responseheaders(flow)` and
`websocket_message(flow)` as in mitmproxy; `requestbody(flow)` and `responsebody(flow)` return a `BodyScanner`, fresh
for each message, which gets the decoded body piece by piece and at last b"".  A scanner that wants no more returns
`DONE`.  `requestviews(flow)` and `responseviews(flow)` return a `ViewScanner`, which gets such a scanner for each view
of the message (see `addons.views`): its parts, the entries of its archives, its texts without their escapes.
`request` and `response` exist as well, but then the body must be buffered.

Labels (`label`, `labels`) are how an earlier filter talks to later ones and to the rules of the policy.

What each module is for stands in ARCHITECTURE.md, a line each.
"""

from addons.connection import Connection, Process
from addons.verdict import (
    DONE,
    Action,
    BodyScanner,
    Finding,
    Verdict,
    ViewScanner,
    alert,
    allow,
    block,
    confidence,
    kill,
    label,
    labels,
    masked,
    redact,
)

__all__ = [
    "DONE",
    "Action",
    "BodyScanner",
    "Connection",
    "Finding",
    "Process",
    "Verdict",
    "ViewScanner",
    "alert",
    "allow",
    "block",
    "confidence",
    "kill",
    "label",
    "labels",
    "masked",
    "redact",
]
