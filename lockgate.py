"""What a filter author imports; `python -m lockgate` is the command line.  Re-exports only."""

from addons import (
    DONE,
    Action,
    BodyScanner,
    Connection,
    Finding,
    Process,
    Verdict,
    ViewScanner,
    alert,
    allow,
    block,
    kill,
    label,
    labels,
    redact,
)

__all__ = ["DONE", "Action", "BodyScanner", "Connection", "Finding", "Process", "Verdict", "ViewScanner", "alert",
           "allow", "block", "kill", "label", "labels", "redact"]

if __name__ == "__main__":
    import sys

    from proxy.cli import main

    sys.exit(main())
