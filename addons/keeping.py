"""Where filters keep what shall outlast them: compiled lists, the use of quotas.

The proxy names its state folder at its start.  Nothing is kept where it has not, as in a dry run.
"""

from pathlib import Path

_folder: Path | None = None


def use(folder: Path | None) -> None:
    """Keep things below this folder from now on; None: keep nothing."""
    global _folder
    _folder = folder


def folder(name: str) -> Path | None:
    """Return the folder for things of one sort, which is made if need be; None if nothing is kept, or can be."""
    if _folder is None:
        return None
    try:
        (_folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return _folder / name
