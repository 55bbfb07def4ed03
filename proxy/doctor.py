"""`lockgate doctor`: does it work here?  What can be proven is, by a real worker, and rules in a namespace."""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

from certs import stores
from certs.record import Record, default_folder
from certs.root import Root
from proxy import history, packetcheck, running, selftest
from proxy.options import state
from proxy.trust import BUNDLE_VARIABLES, FOLDER_VARIABLE, SYSTEM_BUNDLES
from redirector import cgroups, owner, release, trial
from redirector.nft import Tables
from redirector.nftables import ruleset
from redirector.plan import Plan

#: Days of life left from which on a new root is due.
RENEW = 30
PYTHON, MITMPROXY = (3, 12), (12, 2, 3)
#: Programs that some part asks for, and the Debian package that has each.
PROGRAMS = {
    "certutil": ("libnss3-tools", "trust of Chromium and Firefox"),
    "vfyserv": ("libnss3-tools", "`ca verify` of a browser's database"),
    "openssl": ("openssl", "the system's trust store"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """What one check found; `mend` says what to do about it."""

    check: str
    result: Literal["ok", "warn", "fail"]
    text: str
    mend: str = ""


def doctor(arguments: argparse.Namespace) -> int:
    """Does everything work here, and if not, what to do?  Exit code 1: something does not.

    It changes nothing: what it tries, it tries on loopback and in a network namespace of its own.

    example:
      lockgate doctor
      sudo lockgate doctor --json
    """
    failed = False
    for row in rows(state(arguments), arguments.run_dir):
        failed = failed or row.result == "fail"
        if arguments.json:
            print(json.dumps(asdict(row)), flush=True)
        else:
            mend = f"\n{'':19}-> {row.mend}" if row.mend else ""
            print(f"{row.result:5}{row.check:14}{row.text}{mend}", flush=True)
    return int(failed)


def rows(folder: Path, run_dir: str) -> Iterator[Row]:
    """Every check in turn; one that fails in a way of its own is a row, not the end."""
    checks: tuple[tuple[str, Callable[[], Iterator[Row]]], ...] = (
        ("python", python), ("packages", packages), ("programs", programs), ("nftables", nftables),
        ("divert", packets), ("hook", hook), ("cgroup", control_groups), ("identity", identity), ("mounts", mounts),
        ("left over", partial(left_over, folder, run_dir)), ("history", partial(kept, folder)),
        ("root", partial(root, folder)), ("environment", environment), ("self-test", self_test),
    )
    for name, check in checks:
        try:
            yield from check()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            yield Row(name, "fail", str(error).partition("\n")[0] or type(error).__name__)


def python() -> Iterator[Row]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= PYTHON
    yield Row("python", "ok" if good else "fail", version, "" if good else "install Python 3.12 or newer")


def packages() -> Iterator[Row]:
    version = metadata.version("mitmproxy")
    new = tuple(int(part) for part in version.split(".")[:3] if part.isdigit()) >= MITMPROXY
    yield Row("mitmproxy", "ok" if new else "fail", version, "" if new else "pip install --upgrade 'mitmproxy>=12.2.3'")
    with contextlib.suppress(metadata.PackageNotFoundError):
        yield Row("packages", "fail", f"proxy.py {metadata.version('proxy.py')} has a package `proxy` as we do",
                  "install lockgate into an environment of its own")


def programs() -> Iterator[Row]:
    for name, (package, use) in PROGRAMS.items():
        if not shutil.which(name):
            yield Row(name, "warn", f"not installed: {use} cannot be changed or checked", f"apt install {package}")


def nftables() -> Iterator[Row]:
    if os.geteuid() != 0:
        yield Row("nftables", "warn", "only root can capture other programs' connections",
                  "sudo lockgate doctor; without root there is `start --capture explicit`")
        return
    apart(os.CLONE_NEWNET, lambda: Tables().run(ruleset(Plan((80, 443), 8080, exempt_uid=61184), "lockgate_doctor")))
    yield Row("nftables", "ok", "the kernel takes our rules, tried in a network namespace of its own")


def packets() -> Iterator[Row]:
    found = [*packetcheck.library()]
    if os.geteuid() == 0 and found[0][0] == "ok":
        apart(os.CLONE_NEWNET, lambda: found.extend(packetcheck.kernel()))
        found.extend(packetcheck.firewall())
    yield from (Row("divert", *each) for each in found)


def hook() -> Iterator[Row]:
    why = trial.obstacle()
    if why:
        yield Row("hook", "warn", why, "until then `lockgate run` without root is for programs that honour variables")
    else:
        yield Row("hook", "ok", "each connect() of a command can be redirected without rights, by `lockgate run`")


def control_groups() -> Iterator[Row]:
    mount = cgroups.mount()
    if os.geteuid() != 0:
        yield Row("cgroup", "ok", f"version 2 is on {mount}")
        return
    folder = Path(mount, f"lockgate-doctor-{os.getpid()}")
    folder.mkdir()
    can_kill = (folder / "cgroup.kill").exists()
    folder.rmdir()
    yield Row("cgroup", "ok" if can_kill else "warn", f"version 2 is on {mount}" + (
        "" if can_kill else "; this kernel is older than 5.14: what a command leaves running is not ended with `run`"))


def identity() -> Iterator[Row]:
    if os.geteuid() != 0:
        yield Row("identity", "warn", "only root sees the processes of other users")
        return
    with owner.watching() as hindrance:
        yield Row("identity", "warn" if hindrance else "ok", "the kernel notes who connects" if not hindrance else
                  f"who connects is searched in /proc, slower and not of ended processes: {hindrance}")


def mounts() -> Iterator[Row]:
    if os.geteuid() == 0:
        apart(os.CLONE_NEWNS, lambda: None)
        yield Row("mounts", "ok", "mount namespaces work: `run` can have trust for one command alone")


def left_over(folder: Path, run_dir: str) -> Iterator[Row]:
    note, held = running.read(folder, run_dir), release.status(run_dir)
    if note:
        yield Row("running", "ok", f"pid {note['pid']}, {note['capture']}")
    if held and not any(record.role == "redirector" for record in held):
        yield Row("left over", "fail", f"refuses connections: {held[0]}", "sudo lockgate release, or start again")
    elif os.geteuid() == 0 and (unknown := set(release.tables()) - {record.table for record in held}):
        yield Row("left over", "fail", f"without a record: {', '.join(sorted(unknown))}", "sudo lockgate release")
    else:
        yield Row("left over", "ok", "no guard or table without its proxy")


def kept(folder: Path) -> Iterator[Row]:
    place = history.folder_of(folder)
    try:
        count, oldest, size = history.extent(place)
    except FileNotFoundError:
        yield Row("history", "ok", f"no connections are kept in {place} yet")
    except PermissionError:
        yield Row("history", "ok", f"{place} is for root to read")
    except ValueError as error:
        yield Row("history", "fail", str(error), f"move {place / history.DATABASE} away; the next start makes one")
    else:
        since = f", the oldest of {time.strftime('%Y-%m-%d %H:%M', time.localtime(oldest))}" if count else ""
        yield Row("history", "ok", f"{count} connections{since}; {size / 1_000_000:.1f} MB in {place}")


def root(folder: Path) -> Iterator[Row]:
    path = folder / "ca" / "ca.pem"
    if not path.exists():
        yield Row("root", "ok", f"none in {folder} yet; the first start makes one")
        return
    found = Root.read(path)
    days = found.days_left
    mend = "" if days > RENEW else f"lockgate ca uninstall; mv {path.parent} elsewhere; lockgate ca create; ca install"
    yield Row("root", "fail" if days < 0 else "warn" if mend else "ok", f"{found.subject}, {days} days left", mend)
    trusted = {store.name: store.check(found) for store in stores.detect(record=Record(default_folder()))}
    if others := [name for name, there in trusted.items() if not there]:
        yield Row("trust", "warn", f"not in {', '.join(others)}", "sudo lockgate ca install; `lockgate run` needs none")
    elif trusted:
        yield Row("trust", "ok", f"in {', '.join(trusted)}")


def environment() -> Iterator[Row]:
    """Variables that hide the system's store from what is started from here."""
    system = {str(Path(path).resolve()) for path in SYSTEM_BUNDLES} | {"/etc/ssl/certs"}
    hiding = [name for name in (*BUNDLE_VARIABLES, FOLDER_VARIABLE)
              if (value := os.environ.get(name)) and str(Path(value).resolve()) not in system]
    if hiding:
        yield Row("environment", "warn", f"programs started from here ask {', '.join(hiding)}, not the system's store",
                  f"unset {' '.join(hiding)}, or add the root there (ca export); `lockgate run` sets them itself")
    else:
        yield Row("environment", "ok", "no variable hides the system's trust store")


def self_test() -> Iterator[Row]:
    """A worker and an origin; as root in a network namespace of their own, where a command is captured as well."""
    with tempfile.TemporaryDirectory(prefix="lockgate-doctor-") as name:
        Path(name).chmod(0o755)     # the proxy, another user, reads the policy there
        found: list[tuple[str, bool, str]] = []
        if os.geteuid() == 0:
            apart(os.CLONE_NEWNET, lambda: found.extend(selftest.run(Path(name), captured=True)))
        else:
            found.extend(selftest.run(Path(name), captured=False))
    for check, good, text in found:
        yield Row(check, "ok" if good else "fail", text, "" if good else "please report this, with all of these lines")


def apart(flags: int, act: Callable[[], object]) -> None:
    """Do something in namespaces of its own, which go with the thread; what it raises is raised here."""
    raised: list[Exception] = []

    def inside() -> None:
        try:
            os.unshare(flags)
            act()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
