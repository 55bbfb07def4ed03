"""Who runs with a state folder: a note that the launcher leaves, so that `stop` and `status` find it."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from redirector import release


def place(state: Path, run_dir: str) -> Path:
    """Where the note is.  Root's is not in the state folder, whose owner could make root end any process by it."""
    if os.geteuid() != 0:
        return state / "running.json"
    return Path(run_dir, f"{hashlib.sha256(os.fsencode(state)).hexdigest()[:16]}.running")


def write(path: Path, note: dict[str, Any]) -> None:
    """Note this process, and what it serves."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"pid": os.getpid(), "started": release.started(os.getpid()), **note}))
    draft.replace(path)


def read(state: Path, run_dir: str) -> dict[str, Any] | None:
    """The note of a launcher that lives, or None.  Raises ValueError where others may write to root's run folder."""
    path = place(state, run_dir)
    try:
        if os.geteuid() == 0:
            release.check_folder(run_dir)
        note: dict[str, Any] = json.loads(path.read_text())
    except OSError:
        return None
    return note if release.started(note["pid"]) == note["started"] else None
