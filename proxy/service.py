"""`lockgate service`: the service of the system's manager, put in place, looked at, and removed without a trace."""

import argparse
import contextlib
import grp
import hashlib
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from proxy import confine, policy, units
from proxy.commands import named_files
from proxy.options import UsageError
from proxy.serving import INSTANCE
from redirector import release

#: Where an administrator's units are (systemd.unit(5)), and what we noted of our own.
UNITS = Path("/etc/systemd/system")
RECORD = Path("/var/lib/lockgate/service.json")
STATE = units.STATE
#: There while systemd is what runs the machine (sd_booted(3)).
BOOTED = Path("/run/systemd/system")
#: Seconds for systemctl; a start waits for the proxy's readiness, a stop for its end.
LIMIT = 150
SHOWN = ("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "MainPID", "NRestarts", "StatusText")
#: What uv leaves in an environment for everybody to lock: an empty file that nobody reads.
LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Step:
    """One change; `text` says which."""

    text: str
    do: Callable[[], object] = field(repr=False)


def service(arguments: argparse.Namespace) -> int:
    """Run lockgate from boot on, by systemd: `install`, `status`, `uninstall`.

    The proxy runs as the user `lockgate` without any right; what holds the kernel's rules has five capabilities.
    Every change is shown first; `--dry-run` stops there.  Exit code 1 of `status`: it does not run.

    example:
      sudo lockgate service install --policy /etc/lockgate/policy.yaml
      sudo lockgate service status
      sudo systemctl reload lockgate          # the policy has changed; `restart` where its `capture` has
      sudo lockgate service uninstall
    """
    if arguments.action == "status":
        return status(as_json=arguments.json)
    if not shutil.which("systemctl"):
        raise UsageError("there is no systemd here; `lockgate start` does the same for as long as it runs")
    if os.geteuid() != 0:
        raise UsageError(f"`service {arguments.action}` changes the system: sudo lockgate service "
                         f"{arguments.action}")
    if arguments.json and not (arguments.yes or arguments.dry_run):
        raise UsageError("--json asks nothing: give --yes as well, or --dry-run")
    if arguments.action == "install":
        return _apply(installing(setting(arguments.policy)), arguments)
    if arguments.policy:
        raise UsageError("--policy is for `service install`")
    return _apply(uninstalling(), arguments)


def _apply(steps: list[Step], arguments: argparse.Namespace) -> int:
    if arguments.json:
        print(json.dumps({"steps": [step.text for step in steps], "done": not arguments.dry_run}))
    else:
        print(*(f"- {step.text}" for step in steps) if steps else ("nothing to do",), sep="\n")
    if arguments.dry_run or not steps:
        return 0
    if not (arguments.yes or _agreed()):
        print("nothing was changed")
        return 1
    for step in steps:
        try:
            step.do()
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip()
            raise UsageError(f"{step.text}: {said}; the steps before it are done, and can be repeated or undone "
                             "(`service uninstall`)") from None
    return 0


def _agreed() -> bool:
    with contextlib.suppress(EOFError):
        return input("Do this? [y/N] ").strip().lower() in ("y", "yes")
    return False


# -- installing

def setting(path: Path | None) -> units.Setting:
    """What the units are to say.  Raises PolicyError; UsageError for code that others than root may change, or that the
    service could not read."""
    os.environ.pop("SUDO_UID", None)        # whoever called sudo is trusted today; at each boot root alone is
    path = path and path.absolute()
    wanted = policy.load(path, strict=True) if path else policy.default_policy()
    code = confine.code_paths()
    for place in (Path(sys.executable), *code):
        _refuse_foreign(place)
    files = [*([path] if path else []), *named_files(wanted, path)]
    for place in (Path(__file__), *files):
        _refuse_unreadable(place)
    return units.Setting(Path(sys.executable), path, [*code, *map(_view, files)], confine.ACCOUNT,
                         closed=wanted.capture.fail == "closed")


def _view(file: Path) -> Path:
    """What is shown of a hidden place for a file to be seen: its folder, in which a new one may replace it.  Of a home
    only the file: editors that replace it need a `systemctl restart`."""
    home = file.parent in units.HIDDEN or file.parent.parent == Path("/home")
    return file if home else file.parent


def _refuse_unreadable(file: Path) -> None:
    closed = [folder for folder in file.parents if not folder.stat().st_mode & stat.S_IXOTH
              and not any(place in (folder, *folder.parents) for place in units.HIDDEN)]
    if closed or not file.stat().st_mode & stat.S_IROTH:
        raise UsageError(f"the proxy runs as {confine.ACCOUNT}, who may not read {file}: chmod "
                         + (f"o+x {closed[0]}" if closed else f"o+r {file}"))


def _refuse_foreign(place: Path) -> None:
    """Root will run this: nobody else may be able to put something in its place."""
    inside = (Path(folder) / name for folder, _, names in os.walk(place) for name in ("", *names) if name != LOCK)
    for path in (place, *place.parents, *place.resolve().parents, *inside):
        with contextlib.suppress(FileNotFoundError):        # a link to nothing
            try:
                policy.refuse_foreign(path, path.stat())
            except ValueError as error:
                raise UsageError(f"root is to run this: {error}") from None


def installing(made: units.Setting) -> list[Step]:
    """The changes that are still to be made."""
    _record()       # before anything is changed: it has to be ours
    steps, texts = [], units.units(made)
    if not _exists(made.user):
        steps.append(Step(f"create the system user {made.user}", partial(_create, made.user)))
    changed = [name for name, text in texts.items() if _read(UNITS / name) != text]
    steps += [Step(f"write {UNITS / name}", partial(_write, name, texts[name])) for name in changed]
    if changed and _booted():
        steps.append(Step("systemctl daemon-reload", partial(_run, "systemctl", "daemon-reload")))
    shown = _show()
    if shown.get("UnitFileState") != "enabled":
        steps.append(Step(f"systemctl enable {units.SERVICE}", partial(_run, "systemctl", "enable", units.SERVICE)))
    if _booted() and (changed or shown.get("ActiveState") != "active"):
        steps.append(Step(f"systemctl restart {units.SERVICE}", partial(_run, "systemctl", "restart", units.SERVICE)))
    return steps


def _exists(user: str) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(user) and grp.getgrnam(user))
    return False


def _create(user: str) -> None:
    _note(lambda record: record.update(user=user))      # first: what is noted can be undone, also if it was not done
    _run("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell",
         "/usr/sbin/nologin", user)


def _write(name: str, text: str) -> None:
    _note(lambda record: record["units"].update({name: hashlib.sha256(text.encode()).hexdigest()}))
    draft = UNITS / f".{name}.lockgate"
    draft.write_text(text)
    draft.chmod(0o644)
    draft.replace(UNITS / name)


def _note(change: Callable[[dict[str, Any]], object]) -> None:
    record = _record()
    change(record)
    RECORD.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = RECORD.with_suffix(".draft")
    draft.write_text(json.dumps(record))
    draft.replace(RECORD)


def _record() -> dict[str, Any]:
    """What was done.  It names files to remove and a user, so nobody but root may write it; raises UsageError."""
    try:
        release.check_folder(str(RECORD.parent))
        return dict(json.loads(RECORD.read_text()))
    except FileNotFoundError:
        return {"units": {}}
    except ValueError as error:
        raise UsageError(str(error)) from None


# -- uninstalling

def uninstalling() -> list[Step]:
    """The way back: what was noted, and nothing else.  Keys and events stay, and become root's."""
    record, steps = _record(), []
    if not record["units"] and "user" not in record:
        return []
    shown = _show()
    if shown.get("UnitFileState") == "enabled":
        steps.append(Step(f"systemctl disable {units.SERVICE}", partial(_run, "systemctl", "disable", units.SERVICE)))
    if _booted():
        steps.append(Step(f"systemctl stop {units.SERVICE} {units.SOCKET}", partial(
            _run, "systemctl", "stop", units.SERVICE, units.SOCKET)))
        steps.append(Step("lift what its guard refuses", partial(release.release, units.RUN_DIR, INSTANCE)))
    for name, digest in record["units"].items():
        text = _read(UNITS / name)
        if text is None:
            continue
        if hashlib.sha256(text.encode()).hexdigest() == digest:
            steps.append(Step(f"remove {UNITS / name}", (UNITS / name).unlink))
        else:
            steps.append(Step(f"move {UNITS / name}, which somebody has changed, to {name}.saved",
                              partial(_save, UNITS / name)))
    if _booted():
        steps.append(Step("systemctl daemon-reload", partial(_run, "systemctl", "daemon-reload")))
    if STATE.exists():
        steps.append(Step(f"give {STATE} to root; keys and events stay there", partial(confine.take_back, STATE)))
    if _exists(record.get("user", "")):
        steps.append(Step(f"remove the system user {record['user']}", partial(_run, "userdel", record["user"])))
    return [*steps, Step(f"remove {RECORD}", partial(RECORD.unlink, missing_ok=True))]


def _save(path: Path) -> None:
    path.rename(path.with_name(path.name + ".saved"))


# -- looking

def status(*, as_json: bool) -> int:
    """Say whether it is installed and runs, and what holds in the kernel."""
    shown, installed = _show(), (UNITS / units.SERVICE).exists()
    try:
        held = [record for record in release.status(units.RUN_DIR) if record.instance == INSTANCE]
    except ValueError as error:
        raise UsageError(str(error)) from None
    running = shown.get("ActiveState") == "active"
    if as_json:
        kernel = [{"role": each.role, "pid": each.pid, "table": each.table, "fail": each.fail} for each in held]
        print(json.dumps({"installed": installed, "running": running, "unit": shown, "kernel": kernel}))
        return 0 if running else 1
    print(*_told(installed, shown, held), sep="\n")
    return 0 if running else 1


def _told(installed: bool, shown: dict[str, str], held: list[release.Record]) -> Iterator[str]:
    if not installed:
        yield "not installed: sudo lockgate service install --policy FILE"
    elif not shown.get("ActiveState"):
        yield "installed; systemd does not run here, so nothing is known of it"
    else:
        state = f"{shown['ActiveState']} ({shown['SubState']}), {shown.get('UnitFileState', '')}"
        yield f"{state}, pid {shown['MainPID']}: {shown.get('StatusText') or shown.get('Result', '')}"
    yield from (f"in the kernel: {record}, fail {record.fail}" for record in held)
    if shown.get("ActiveState") != "active" and any(record.role == "guard" for record in held):
        yield "a guard holds the captured ports closed; `lockgate release` lifts it"


def _show() -> dict[str, str]:
    """What the manager says of the service; without one, only whether it is enabled."""
    with contextlib.suppress(subprocess.SubprocessError, OSError):
        if _booted():
            answer = _run("systemctl", "show", units.SERVICE, f"--property={','.join(SHOWN)}")
            return dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
        return {"UnitFileState": _run("systemctl", "is-enabled", units.SERVICE).strip()}
    return {}


def _booted() -> bool:
    return BOOTED.exists()


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT).stdout


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
