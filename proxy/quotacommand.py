"""`lockgate quotas`: what has been used up of each."""

import argparse
import json
import sqlite3

from addons import usage
from proxy.options import UsageError, state


def quotas(arguments: argparse.Namespace) -> int:
    """What programs, hosts and users have used of their quotas, in the newest hour or day of each.

    example:
      lockgate quotas
      lockgate quotas --json
    """
    folder = state(arguments) / "filter-state" / "quotas"
    if not (folder / usage.FILE).exists():
        if not arguments.json:
            print("no quota has been used yet")
        return 0
    try:
        found = usage.rows(folder)
    except sqlite3.Error as error:
        raise UsageError(f"{folder / usage.FILE}: {error}") from None
    for name, window, subject, requests, size, most, most_bytes in found:
        if arguments.json:
            print(json.dumps({"quota": name, "window": window, "subject": subject, "requests": requests, "bytes": size,
                              "max_requests": most or None, "max_bytes": most_bytes or None}))
        else:
            shares = [f"{requests:,}" + (f" of {most:,}" if most else "") + " requests",
                      f"{size:,}" + (f" of {most_bytes:,}" if most_bytes else "") + " bytes"]
            print(f"{name}, {window}, {subject}: {', '.join(shares)}")
    return 0
