"""The filter author's package."""

from addons.connection import Connection, Process
from addons.verdict import (
    DONE,
    Action,
    BodyScanner,
    Finding,
    Verdict,
    alert,
    allow,
    block,
    kill,
    label,
    labels,
    masked,
)

__all__ = [
    "DONE",
    "Action",
    "BodyScanner",
    "Connection",
    "Finding",
    "Process",
    "Verdict",
    "alert",
    "allow",
    "block",
    "kill",
    "label",
    "labels",
    "masked",
]
