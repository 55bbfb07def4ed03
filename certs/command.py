"""Programs of others: how they are run, and how their failure is told."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

#: Each does milliseconds of work; one that asks or hangs must not hold up the other stores.
TIME_LIMIT = 30.0

#: Nothing else of the caller's environment reaches them: CA and proxy variables would decide what we came to ask.
PASSED_ON = ("PATH", "LANG", "LC_ALL")

#: Where Debian has the programs whose package is named otherwise.
PACKAGES = {"certutil": "libnss3-tools", "vfyserv": "libnss3-tools"}


class StoreError(ValueError):
    """A trust store cannot be read or changed, or does not trust us; the message says why and what to do."""


def run(command: Sequence[str | Path], *, home: Path, given: bytes = b"", codes: Sequence[int] = (0,)) -> str:
    """Run a command on the input `given` and return its output; `codes` are the exit codes that mean success.

    Raises StoreError with the command and what it said.
    """
    line = shlex.join(map(str, command))
    environment = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
    try:
        done = subprocess.run(
            command,
            env={**environment, "HOME": str(home)},
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIME_LIMIT,
            start_new_session=True,  # no terminal to ask for a password on
            # With an effective user set by user.acting(), the real one must follow: certutil is that user wholly.
            user=os.geteuid(),
            group=os.getegid(),
        )
    except (FileNotFoundError, PermissionError) as error:
        package = PACKAGES.get(str(command[0]), str(command[0]))
        raise StoreError(f"{error.filename} is not installed (Debian: apt install {package})") from None
    except subprocess.TimeoutExpired:
        raise StoreError(f"`{line}` gave no answer within {TIME_LIMIT:.0f} s") from None
    output = done.stdout.decode(errors="replace")
    if done.returncode not in codes:
        raise StoreError(f"`{line}` failed with {done.returncode}:\n{output.strip()}")
    return output
