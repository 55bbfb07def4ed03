"""Lists of words in files, one a line."""

from pathlib import Path
from typing import Final

#: Bytes of a list: half a million lines.
MAX_LIST: Final = 16 * 1024 * 1024


def listed(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a UTF-8 file, with their numbers, without empty ones and those that begin with `#`.

    Raises ValueError that names the file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_LIST + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_LIST:
        raise ValueError(f"{path}: larger than {MAX_LIST} bytes")
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8") from None
    return [(i, line) for i, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
