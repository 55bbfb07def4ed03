"""What was changed in a store, and how it was before, so that it can be undone, also after a crash."""

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from certs.files import replace, sweep
from certs.root import Root

#: File -> what it held; None: it did not exist.
type Contents = Mapping[Path, bytes | None]

#: What an uninstall says that left nothing at all.
AS_BEFORE = "removed; all that was changed is as before, byte for byte"


def default_folder() -> Path:
    """Return where records are kept: with the computer's state for root, with the user's for anybody else."""
    if os.geteuid() == 0:
        return Path("/var/lib/lockgate/trust")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "lockgate/trust"


class Record:
    """A folder with one JSON file for each root in each store. Private: a browser's database holds keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, root: Root, store: str, before: Contents, *, keep: bool = False) -> None:
        """Note how things are before anything is changed, with `keep` the bytes as well as their hashes.

        What an install that was interrupted has noted is left standing: it knows the state before it began.
        """
        if self._read(root, store).get("state") == "begun":
            return
        note: dict[str, Any] = {"state": "begun", "store": store, "root": root.fingerprint}
        note["at"] = datetime.now(UTC).isoformat(timespec="seconds")
        note["before"] = {str(path): _hash(data) for path, data in before.items()}
        if keep:
            note["kept"] = {str(path): data and base64.b64encode(data).decode() for path, data in before.items()}
        self._write(root, store, note)

    def finish(self, root: Root, store: str, after: Contents) -> None:
        """Note that the install is complete, and what it left."""
        hashes = {str(path): _hash(data) for path, data in after.items()}
        self._write(root, store, self._read(root, store) | {"state": "installed", "after": hashes})

    def knows(self, root: Root, store: str) -> bool:
        return bool(self._read(root, store))

    def same(self, root: Root, store: str, now: Contents) -> bool:
        """Is everything as it was before the install?"""
        return self._read(root, store).get("before") == {str(path): _hash(data) for path, data in now.items()}

    def kept(self, root: Root, store: str) -> dict[Path, bytes | None]:
        """Return what `begin` kept; empty if nothing is on record."""
        found = self._read(root, store).get("kept", {})
        return {Path(path): None if data is None else base64.b64decode(data) for path, data in found.items()}

    def forget(self, root: Root, store: str) -> None:
        """Drop the record, and the folder with the last one."""
        self._path(root, store).unlink(missing_ok=True)
        sweep(self._path(root, store))
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, root: Root, store: str) -> Path:
        return self.folder / f"{root.name}-{hashlib.sha256(store.encode()).hexdigest()[:8]}.json"

    def _read(self, root: Root, store: str) -> dict[str, Any]:
        path = self._path(root, store)
        try:
            found = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); remove it, and the uninstall will do without") from None
        if not isinstance(found, dict):
            raise ValueError(f"{path} is not a record of ours; remove it, and the uninstall will do without")
        return found

    def _write(self, root: Root, store: str, note: dict[str, Any]) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace(self._path(root, store), json.dumps(note, indent=1).encode(), 0o600)


def _hash(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()
