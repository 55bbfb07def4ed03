"""Find and end what lockgate holds in the kernel, in an emergency and by any Python from 3.9 on:

    sudo python3 redirector/release.py [RUN_DIR]

Every redirector and guard leaves a record in the run folder: its pid and the time it started. Ending the process ends
its table, as the kernel removes a table with its owner. Exit codes: 0 nothing of lockgate is left, 1 something is,
2 not allowed or not understood.
"""
from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import stat
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

programs: Any = None
for _name in ("redirector.programs", "programs"):      # as part of the package, and as a file in its folder
    with contextlib.suppress(ImportError):
        programs = programs or importlib.import_module(_name)

RUN_DIR = "/run/lockgate"
#: What the control groups of `exempt.py` are called; the instance and the network namespace follow.
EXEMPT = "lockgate_exempt_"
#: Seconds that a killed process may take to go; the kernel needs milliseconds.
END_LIMIT = 5.0
#: Seconds for one whose rules go only if it takes them back itself (`packets`, not a table) to do so.
ORDERLY_LIMIT = 1.0
#: A redirector that is just being ended may make one more guard; what is still there in the third round will not go.
ROUNDS = 3


@dataclass(frozen=True)
class Record:
    """One redirector or guard. `started` is in clock ticks since boot, `netns` the inode of its network namespace.

    `existing` are the connections, [client, port, server, port], that its table lets go on.
    """

    role: str
    instance: str
    pid: int
    started: int
    table: str
    fail: str
    netns: int
    existing: list[list[Any]] = field(default_factory=list)
    @property
    def file(self) -> str:
        return f"{self.instance}.{self.role}-{self.pid}.json"

    def __str__(self) -> str:
        return f"{self.role} of {self.instance} (pid {self.pid}, table {self.table})"

    def alive(self) -> bool:
        return started(self.pid) == self.started


def started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (field 22 of its stat, proc(5)); None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def netns() -> int:
    return os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116  # the inode of the link's target, which has no path


def exempt_group(instance: str) -> str:
    """The name of its control groups: network namespaces share the tree of these, and may have the same instances."""
    return f"{EXEMPT}{instance}_{netns()}"


def write(run_dir: str, role: str, instance: str, table: str, fail: str,
          existing: list[list[Any]]) -> Path:
    """Record this process, return the record's path. Raises OSError; ValueError if others may write to the folder."""
    for record in read(run_dir):
        if not record.alive():
            Path(run_dir, record.file).unlink(missing_ok=True)
    pid = os.getpid()
    record = Record(role, instance, pid, started(pid) or 0, table, fail, netns(), existing)
    path, draft = Path(run_dir, record.file), Path(run_dir, f".{record.file}")
    draft.write_text(json.dumps(asdict(record)))
    draft.replace(path)
    return path


def read(run_dir: str) -> list[Record]:
    """All records, those of ended processes too; redirectors come first. Raises as `write` does."""
    if not Path(run_dir).exists():
        return []
    check_folder(run_dir)
    found = []
    for path in sorted(Path(run_dir).glob("[!.]*.json")):
        with contextlib.suppress(ValueError, TypeError, OSError):    # not a record of ours, or gone by now
            found.append(Record(**json.loads(path.read_text())))
    return sorted(found, key=lambda record: record.role != "redirector")


def status(run_dir: str = RUN_DIR) -> list[Record]:
    """The redirectors and guards that run."""
    return [record for record in read(run_dir) if record.alive()]


def end(run_dir: str, record: Record) -> bool:
    """Kill the recorded process, if it is still that one, and remove its record. True if it was alive."""
    killed = False
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(record.pid)
        try:
            if record.alive():      # asked after the pidfd was taken: from now on it means this process
                if record.table.startswith("packets"):
                    signal.pidfd_send_signal(process, signal.SIGTERM)
                    killed = bool(select.select([process], [], [], ORDERLY_LIMIT)[0])
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                killed = killed or bool(select.select([process], [], [], END_LIMIT)[0])
        finally:
            os.close(process)
    with contextlib.suppress(FileNotFoundError):
        Path(run_dir, record.file).unlink()
    return killed


def release(run_dir: str = RUN_DIR, instance: str | None = None) -> list[Record]:
    """End all redirectors and guards, or those of one instance in this network namespace; returns them."""
    ended = []
    for _ in range(ROUNDS):
        records = [record for record in read(run_dir)
                   if instance is None or (record.instance, record.netns) == (instance, netns())]
        ended += [record for record in records if end(run_dir, record)]
    put_back(instance)
    return ended


def put_back(instance: str | None = None) -> None:
    """Servers that a killed `redirect` had set apart go back to the control group that they were in, the parent."""
    wanted = exempt_group(instance or "")
    for path, _, _ in os.walk("/sys/fs/cgroup"):
        name = path.rpartition("/")[2]
        if name == wanted or (instance is None and name.startswith(EXEMPT)):
            folder = Path(path)
            with contextlib.suppress(OSError):          # it is gone, or in use below
                for pid in (folder / "cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        (folder.parent / "cgroup.procs").write_text(pid)
                folder.rmdir()


def tables() -> list[str]:
    """The tables of lockgate in this network namespace. Raises ValueError when nft cannot tell."""
    try:
        listing = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True,
                                 timeout=END_LIMIT)
    except FileNotFoundError as error:
        raise ValueError("nft is not installed, so what is left cannot be seen: apt install nftables") from error
    except subprocess.SubprocessError as error:
        raise ValueError(f"nft list tables: {getattr(error, 'stderr', None) or error}") from error
    names = (line.split()[-1] for line in listing.stdout.splitlines() if line)
    return [name for name in names if name.startswith("lockgate")]


def holders() -> list[str]:
    """The processes with an nftables socket in this network namespace: a table's owner is one of them."""
    lines = Path("/proc/net/netlink").read_text().splitlines()
    sockets = {f"socket:[{fields[9]}]" for fields in map(str.split, lines) if fields[1] == "12"}    # NETLINK_NETFILTER
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):          # it ended, or is not ours to see
            if any(os.readlink(fd) in sockets for fd in (folder / "fd").iterdir()):  # noqa: PTH115
                found.append(f"pid {folder.name}: {_shown(folder / 'cmdline')}")
    return found


def _shown(cmdline: Path) -> str:
    """On one line, and nothing but text to a terminal."""
    text = cmdline.read_text(errors="replace").replace("\0", " ")
    return "".join(char if char.isprintable() else "?" for char in text)


def check_folder(run_dir: str) -> None:
    """Records name processes to kill, so nobody but root and us may have written them."""
    info = os.lstat(run_dir)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid not in (0, os.geteuid()) or info.st_mode & 0o022:
        raise ValueError(f"{run_dir}: not a folder that root alone may write to: chown root, chmod 755")


def main(argv: list[str]) -> int:
    """The command; returns its exit code."""
    if len(argv) > 1 or argv[:1] in (["-h"], ["--help"]):
        print(__doc__, file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("release: only root may: sudo python3 redirector/release.py", file=sys.stderr)
        return 2
    try:
        for record in release(*argv):
            print(f"ended {record}")
        for program in programs.detach() if programs else ():      # without it, they stay and do nothing
            print(f"detached a program: {program}")
        left = tables()
    except (ValueError, OSError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 2
    if not left:
        print("nothing of lockgate is left in this network namespace")
        return 0
    print(f"still there: {', '.join(left)}; one of these holds it (kill -9 PID):", *holders(), sep="\n  ")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
