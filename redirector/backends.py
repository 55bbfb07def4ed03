"""The ways to capture: which there are, which one a plan means, and which fits this computer."""
import os
import sys
from collections.abc import Collection
from typing import Literal

from redirector import handles
from redirector.divert import Divert
from redirector.nft import Tables
from redirector.nftables import Nftables
from redirector.plan import Backend, BackendError, BackendName, Declaration, Plan
from redirector.wire import Start

Capture = BackendName | Literal["explicit"]
#: What each can do; `hook` is chosen where there are no rights and a command to run.
DECLARATIONS: tuple[Declaration, ...] = (Nftables.declaration, Divert.declaration)


def make(start: Start, plan: Plan, table: str, cgroups: str, servers: Collection[str] = ()) -> Backend:
    """The backend of a plan. Raises BackendError for one that is not the redirector's, or not built."""
    match plan.backend:
        case "nftables":
            return Nftables(table, cgroups, servers)
        case "divert":
            return Divert(start)
        case other:
            raise BackendError(f"{other}: not a backend of the redirector")


def choose(wanted: Capture | Literal["auto"], *, root: bool | None = None) -> tuple[Capture, str]:
    """The backend for `--capture`, and in a few words why. Raises BackendError for one that cannot be had."""
    may = os.geteuid() == 0 if root is None and hasattr(os, "geteuid") else bool(root)
    if wanted != "auto":
        if wanted in ("nftables", "divert") and not may:
            raise BackendError("capturing other programs' connections needs root: sudo lockgate start, "
                               "or --capture explicit")
        if wanted == "divert" and (why := handles.usable()):
            raise BackendError(why)
        return wanted, "asked for"
    if not may:
        return "explicit", "without root, clients are told of the proxy"
    if sys.platform == "win32":
        return "divert", "the one that Windows has"
    if (missing := _no_nft()) is None:
        return "nftables", "root, and nftables is here"
    if (why := handles.usable()) is None:
        return "divert", missing
    raise BackendError(f"neither nftables nor divert is possible: {missing}; {why}")


def _no_nft() -> str | None:
    """Why nftables cannot be used, or None."""
    try:
        Tables().close()
    except BackendError as error:
        return str(error)
    return None
