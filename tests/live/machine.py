"""A computer that systemd has booted, within this one: namespaces of its own, a root that forgets, the lab's network.

Its root is an overlay over ours, its memory the upper layer, so nothing that is installed there stays. /proc/sys is read
only and /dev its own, so that it changes nothing of the machine it runs on. It reaches the lab's origin.
"""

import contextlib
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

from proxy.confine import code_paths
from tests.live.lab import Lab
from tests.waiting import wait_for

SYSTEMD = Path("/lib/systemd/systemd")
CGROUPS = Path("/sys/fs/cgroup")
#: Seconds to boot, on a busy machine.
BOOT = 60.0
#: What would change the machine below, or clean away what the test lays there.
MASKED = ("systemd-tmpfiles-setup.service", "systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-clean.timer",
          "systemd-sysctl.service", "systemd-remount-fs.service", "systemd-modules-load.service",
          "systemd-update-utmp.service", "avahi-daemon.socket", "dbus.socket")
BOOT_SCRIPT = """\
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs {folder}
mkdir -p {folder}/up {folder}/wk {root}
mount -t overlay overlay -o lowerdir=/,upperdir={folder}/up,workdir={folder}/wk {root}
mount -t proc proc {root}/proc
mount --bind {root}/proc/sys {root}/proc/sys
mount -o remount,bind,ro {root}/proc/sys
mount -t sysfs -o ro sysfs {root}/sys
for place in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs {root}/$place; done
chmod 1777 {root}/tmp
for name in null zero full random urandom tty; do touch {root}/dev/$name; mount --bind /dev/$name {root}/dev/$name; done
mkdir {root}/dev/pts {root}/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts {root}/dev/pts
ln -s /proc/self/fd {root}/dev/fd; ln -s pts/ptmx {root}/dev/ptmx
for code in {code}; do
  mkdir -p {root}$code; mount --bind $code {root}$code; mount -o remount,bind,ro {root}$code
done
{cgroups}
for unit in {masked}; do ln -sf /dev/null {root}/etc/systemd/system/$unit; done
rm -rf {root}/var/lib/lockgate {root}/etc/lockgate {root}/etc/machine-id
tr -d - < /proc/sys/kernel/random/uuid > {root}/etc/machine-id
mkdir {root}/etc/lockgate
cp {given}/* {root}/etc/lockgate/
cp {root}/etc/lockgate/hosts {root}/etc/hosts
cd {root}
pivot_root . mnt
umount -l /mnt
exec env -i container=lockgate PATH=$PATH {systemd} --system --unit=basic.target --show-status=no
"""


class Machine:
    """Runs in the network of the lab's computer; the files of `given` lie in its /etc/lockgate."""

    def __init__(self, lab: Lab, folder: Path, given: Path) -> None:
        self._lab, self._folder = lab, folder
        self._group = f"lockgate-test-{os.getpid()}"
        self._hierarchies = [CGROUPS / "systemd", CGROUPS / "unified"] if (CGROUPS / "unified").is_dir() else [CGROUPS]
        root, script = folder / "root", folder.with_suffix(".sh")
        words = {"folder": folder, "root": root, "given": given, "systemd": SYSTEMD, "masked": " ".join(MASKED),
                 "code": " ".join(shlex.quote(str(path)) for path in code_paths() if path.is_dir()),
                 "cgroups": "\n".join(self._mounts(root))}
        script.write_text(BOOT_SCRIPT.format(**words))
        joined = "; ".join(f"mkdir -p {each}/{self._group}; echo $$ > {each}/{self._group}/cgroup.procs"
                           for each in self._hierarchies)
        folder.mkdir()
        self._log = script.with_suffix(".log")
        apart = f"nsenter --net=/run/netns/{lab.client} unshare --mount --pid --uts --ipc --cgroup --fork --kill-child"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(["sh", "-c", f"{joined}; exec {apart} sh {script}"],
                                             stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _mounts(self, root: Path) -> list[str]:
        if len(self._hierarchies) == 1:
            return [f"mount -t cgroup2 cgroup2 {root}{CGROUPS}"]
        return [f"mount -t tmpfs -o mode=755 tmpfs {root}{CGROUPS}",
                f"mkdir {root}{CGROUPS}/systemd {root}{CGROUPS}/unified",
                f"mount -t cgroup2 cgroup2 {root}{CGROUPS}/unified",
                f"mount -t cgroup -o none,name=systemd cgroup {root}{CGROUPS}/systemd"]

    @property
    def pid(self) -> int:
        """Of its process 1, as we see it."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0])

    def await_boot(self) -> None:
        def is_up() -> bool:
            with contextlib.suppress(OSError, IndexError):
                return self.call("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")
            return False
        assert wait_for(is_up, BOOT), self._log.read_text()

    def call(self, *command: object, user: int | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command there, as root unless told."""
        words = ["nsenter", f"--target={self.pid}", "--all", "--root", "--wd=/", *map(str, command)]
        if user is not None:
            words[5:5] = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        more.setdefault("timeout", 120)
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        return subprocess.run(words, capture_output=True, text=True, env=environment, **more)

    def read(self, path: str) -> str:
        return Path(f"/proc/{self.pid}/root{path}").read_text()

    def write(self, path: str, text: str) -> None:
        Path(f"/proc/{self.pid}/root{path}").write_text(text)

    def close(self) -> None:
        """Everything in it ends with its process 1."""
        with contextlib.suppress(OSError, IndexError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for hierarchy in self._hierarchies:
            wait_for(lambda group=hierarchy / self._group: _empty(group), 5)     # type: ignore[misc]


def _empty(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()
