"""Where a system keeps its proxy setting: each place as keys and values, read, wanted and written in one way.

Files for login shells, user services, apt and PAC readers; GNOME's settings; the registry (`winproxy.py`).  What was
there before, and how it comes back, is `settingrecord.py`'s business.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from certs.files import look, replace
from certs.user import User, invoking
from proxy import pac
from proxy.destination import Address

#: Key -> value, in the place's own words; None: it is not there.
type Values = Mapping[str, str | None]

#: Seconds for one call of gsettings: its daemon may have to be started.
CALL_LIMIT = 10.0
#: What never goes through the proxy, as the variables name it.
NO_PROXY = ",".join(pac.LOCAL)
_SAID = "set by lockgate; undone by: lockgate system-proxy unset"


class Place(Protocol):
    """One place.  `read` and `write` raise OSError."""

    @property
    def name(self) -> str: ...

    def wanted(self, proxy: Address) -> dict[str, str | None]:
        """What it should hold: these keys are ours while the setting holds."""

    def read(self, keys: Values) -> dict[str, str | None]:
        """What it holds now under these keys."""

    def write(self, values: Values) -> None: ...

    def made(self, keys: Values) -> list[str]:
        """The folders that a `write` would have to make, outermost first."""


# -- files

def _url(proxy: Address) -> str:
    return f"http://{pac.authority(*proxy)}"


def _variables(proxy: Address) -> dict[str, str]:
    names = ("http_proxy", "https_proxy", "all_proxy")
    both = {name: _url(proxy) for name in names} | {"no_proxy": NO_PROXY}
    return both | {name.upper(): value for name, value in both.items()}


def profile(proxy: Address) -> str:
    """For login shells (/etc/profile.d)."""
    return f"# {_SAID}\n" + "".join(f"export {name}='{value}'\n" for name, value in _variables(proxy).items())


def environment(proxy: Address) -> str:
    """For what systemd starts for users (environment.d(5))."""
    return f"# {_SAID}\n" + "".join(f"{name}={value}\n" for name, value in _variables(proxy).items())


def apt(proxy: Address) -> str:
    """For apt (apt.conf(5)), which runs under sudo, where variables do not reach."""
    return f"// {_SAID}\n" + "".join(f'Acquire::{scheme}::Proxy "{_url(proxy)}";\n' for scheme in ("http", "https"))


@dataclass(frozen=True, slots=True)
class Files:
    """A place of files, each held whole."""

    name: str
    contents: Mapping[Path, Callable[[Address], str]]

    def wanted(self, proxy: Address) -> dict[str, str | None]:
        return {str(path): make(proxy) for path, make in self.contents.items()}

    def read(self, keys: Values) -> dict[str, str | None]:
        found = {key: look(Path(key)) for key in keys}
        return {key: None if data is None else data.decode("utf-8", "surrogateescape") for key, data in found.items()}

    def write(self, values: Values) -> None:
        for key, text in values.items():
            if text is None:
                Path(key).unlink(missing_ok=True)
                continue
            path = Path(key).resolve()      # a link stays one
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
            replace(path, text.encode("utf-8", "surrogateescape"), mode)

    def made(self, keys: Values) -> list[str]:
        folders = {folder for key in keys for folder in Path(key).parents if not folder.exists()}
        return sorted(map(str, folders))


# -- GNOME

@dataclass(frozen=True, slots=True)
class Gnome:
    """org.gnome.system.proxy (gsettings-desktop-schemas), which GTK programs, Chromium and Firefox follow.

    A key that has its default value counts as not there, and is reset: so nothing is left in the user's database.
    """

    user: User
    environment: Mapping[str, str]
    name: str = "gnome"

    def wanted(self, proxy: Address) -> dict[str, str | None]:
        base = "org.gnome.system.proxy"
        values = {f"{base} mode": "'manual'", f"{base} ignore-hosts": "['localhost', '127.0.0.0/8', '::1']"}
        for scheme in ("http", "https"):
            values |= {f"{base}.{scheme} host": f"'{proxy[0]}'", f"{base}.{scheme} port": str(proxy[1])}
        for other in ("socks", "ftp"):      # a manual setting of theirs would lead round us
            values[f"{base}.{other} host"] = "''"
        return self._sparse(values)

    def read(self, keys: Values) -> dict[str, str | None]:
        found = self._sparse(self._listed(self.environment))
        return {key: found.get(key) for key in keys}

    def write(self, values: Values) -> None:
        for key, value in values.items():
            schema, _, name = key.partition(" ")
            words = ("reset", schema, name) if value is None else ("set", schema, name, value)
            self._call(words, self.environment)

    def made(self, keys: Values) -> list[str]:
        return []

    def _sparse(self, values: Values) -> dict[str, str | None]:
        defaults = self._listed({**self.environment, "GSETTINGS_BACKEND": "memory"})     # where nothing was ever set
        return {key: None if defaults.get(key) == value else value for key, value in values.items()}

    def _listed(self, environment: Mapping[str, str]) -> dict[str, str]:
        found = {}
        for line in self._call(("list-recursively", "org.gnome.system.proxy"), environment).splitlines():
            schema, name, value = line.split(" ", 2)
            found[f"{schema} {name}"] = value
        return found

    def _call(self, words: tuple[str, ...], environment: Mapping[str, str]) -> str:
        who: dict[str, Any] = {} if self.user.uid == os.geteuid() else {
            "user": self.user.uid, "group": self.user.gid, "extra_groups": [self.user.gid]}
        try:
            done = subprocess.run(["gsettings", *words], capture_output=True, text=True,
                                  timeout=CALL_LIMIT, check=False, env=dict(environment), **who)
        except subprocess.TimeoutExpired:
            raise OSError(f"gsettings {words[0]} did not end within {CALL_LIMIT:g} s") from None
        if done.returncode or "failed to commit" in done.stderr:
            raise OSError(f"gsettings {' '.join(words)}: {done.stderr.strip()[:200]}")
        return str(done.stdout)


def gnome(user: User) -> Gnome | None:
    """The desktop of a user who is logged in to one, or None."""
    if not shutil.which("gsettings"):
        return None
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(user.home)}
    if user.uid == os.geteuid():
        session = ("XDG_", "DBUS_", "GSETTINGS_")
        environment |= {key: value for key, value in os.environ.items() if key.startswith(session)}
    bus = Path(f"/run/user/{user.uid}/bus")
    if bus.exists():
        environment.setdefault("DBUS_SESSION_BUS_ADDRESS", f"unix:path={bus}")
        environment.setdefault("XDG_RUNTIME_DIR", str(bus.parent))
    if not environment.keys() & {"DBUS_SESSION_BUS_ADDRESS", "GSETTINGS_BACKEND"}:
        return None
    found = Gnome(user, environment)
    try:
        found.read({})
    except OSError:         # its schemas are not installed
        return None
    return found


# -- all of them

#: The places that are set unless others are named: apt's is for those who ask.
ALL, USUAL = ("environment", "pac", "gnome", "apt", "windows"), ("environment", "pac", "gnome", "windows")


def places(prefix: Path | None = None) -> dict[str, Place]:
    """The places that this system has, for whoever runs us: root's are the computer's, others' their own.

    Below `prefix`, which stands for `/`, there are files only: nothing else of the running system is in it.
    """
    found: dict[str, Place] = {}
    if sys.platform == "win32":
        from proxy.winproxy import Registry

        return {"windows": Registry()}
    root, user = prefix or Path("/"), invoking()
    if os.geteuid() == 0:
        etc = root / "etc"
        found["environment"] = Files("environment", {etc / "profile.d/lockgate.sh": profile,
                                                     etc / "environment.d/90-lockgate.conf": environment})
        found["apt"] = Files("apt", {etc / "apt/apt.conf.d/90lockgate": apt})
        found["pac"] = Files("pac", {etc / "lockgate/proxy.pac": lambda proxy: pac.script(*proxy).decode()})
    else:
        home = prefix / user.home.relative_to("/") if prefix else user.home
        config = home / ".config" if prefix else Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        found["environment"] = Files("environment", {config / "environment.d/90-lockgate.conf": environment})
        found["pac"] = Files("pac", {config / "lockgate/proxy.pac": lambda proxy: pac.script(*proxy).decode()})
    if prefix is None and (desktop := gnome(user)) is not None:
        found["gnome"] = desktop
    return found
