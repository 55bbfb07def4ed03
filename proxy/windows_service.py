"""lockgate as a service of Windows: `python -I -m proxy.windows_service`, started by the Service Control Manager.

Written to the documentation; **not run on Windows** yet: the worker itself does not start there (README.md). Two services, as on
Linux: this one runs as LocalService, with the proxy; `lockgate-redirector` runs as LocalSystem, with WinDivert. They
meet on a named pipe (`redirector/pipe.py`). Calls: StartServiceCtrlDispatcherW, RegisterServiceCtrlHandlerExW,
SetServiceStatus (learn.microsoft.com, Win32 API, Services).
"""

import ctypes
import subprocess
import sys
import threading
from collections.abc import Callable

NAME, REDIRECTOR = "lockgate", "lockgate-redirector"
#: Milliseconds that a start or a stop may take before the manager calls it hung.
WAIT_HINT = 60_000
# <winsvc.h>
OWN_PROCESS, STOPPED, START_PENDING, STOP_PENDING, RUNNING = 0x10, 1, 2, 3, 4
CONTROL_STOP, CONTROL_INTERROGATE, CONTROL_PARAMCHANGE, CONTROL_SHUTDOWN = 1, 4, 6, 5
ACCEPT_STOP, ACCEPT_SHUTDOWN, ACCEPT_PARAMCHANGE = 1, 4, 8
ERROR_CALL_NOT_IMPLEMENTED = 120


def commands(python: str, policy: str) -> list[list[str]]:
    """What installs both services, for sc.exe: least rights by account, and restarted after a second whatever happens."""
    quoted = subprocess.list2cmdline
    proxy = quoted([python, "-I", "-m", "proxy.windows_service", "--policy", policy])
    redirector = quoted([python, "-I", "-m", "redirector.windows_service"])
    made = []
    for name, command, account in ((REDIRECTOR, redirector, "LocalSystem"), (NAME, proxy, r"NT AUTHORITY\LocalService")):
        made.append(["sc.exe", "create", name, "binPath=", command, "start=", "auto", "obj=", account])
        made.append(["sc.exe", "failure", name, "reset=", "60", "actions=", "restart/1000"])
    made.append(["sc.exe", "config", NAME, "depend=", REDIRECTOR])
    made.append(["sc.exe", "sidtype", NAME, "restricted"])      # it writes only where its own SID may
    return made


if sys.platform == "win32":
    from ctypes import wintypes

    class _Status(ctypes.Structure):
        """SERVICE_STATUS."""

        _fields_ = tuple((name, wintypes.DWORD) for name in (
            "type", "state", "accepted", "exit_code", "specific_exit_code", "check_point", "wait_hint"))

    _MAIN = ctypes.WINFUNCTYPE(None, wintypes.DWORD, ctypes.POINTER(wintypes.LPWSTR))
    _HANDLER = ctypes.WINFUNCTYPE(wintypes.DWORD, wintypes.DWORD, wintypes.DWORD, wintypes.LPVOID, wintypes.LPVOID)

    class _Entry(ctypes.Structure):
        """SERVICE_TABLE_ENTRYW."""

        _fields_ = (("name", wintypes.LPWSTR), ("main", _MAIN))

    _advapi = ctypes.WinDLL("advapi32", use_last_error=True)
    _advapi.RegisterServiceCtrlHandlerExW.restype = wintypes.HANDLE
    _advapi.SetServiceStatus.argtypes = (wintypes.HANDLE, ctypes.POINTER(_Status))

    class Service:
        """Runs `work` until told to stop; `reload` at `sc control lockgate paramchange`."""

        def __init__(self, work: Callable[["Service"], None], reload: Callable[[], None]) -> None:
            self.stopping = threading.Event()
            self._work, self._reload = work, reload
            self._handle: int | None = None
            self._main, self._handler = _MAIN(self._run), _HANDLER(self._control)   # kept: Windows calls them later

        def dispatch(self) -> None:
            """Return when the service has stopped. Raises OSError where no manager started us."""
            table = (_Entry * 2)(_Entry(NAME, self._main), _Entry(None, _MAIN()))
            if not _advapi.StartServiceCtrlDispatcherW(table):
                raise ctypes.WinError(ctypes.get_last_error())

        def tell(self, state: int, exit_code: int = 0) -> None:
            accepted = ACCEPT_STOP | ACCEPT_SHUTDOWN | ACCEPT_PARAMCHANGE if state == RUNNING else 0
            hint = WAIT_HINT if state in (START_PENDING, STOP_PENDING) else 0
            status = _Status(OWN_PROCESS, state, accepted, exit_code, 0, 0, hint)
            _advapi.SetServiceStatus(self._handle, ctypes.byref(status))

        def _run(self, _count: int, _arguments: object) -> None:
            self._handle = _advapi.RegisterServiceCtrlHandlerExW(NAME, self._handler, None)
            self.tell(START_PENDING)
            code = 0
            try:
                self._work(self)        # tells RUNNING itself, once it serves
            except Exception:
                code = 1
            self.tell(STOPPED, code)

        def _control(self, control: int, _kind: int, _data: object, _context: object) -> int:
            match control:
                case 1 | 5:     # CONTROL_STOP, CONTROL_SHUTDOWN
                    self.tell(STOP_PENDING)
                    self.stopping.set()
                case 6:         # CONTROL_PARAMCHANGE
                    self._reload()
                case 4:         # CONTROL_INTERROGATE
                    pass
                case _:
                    return ERROR_CALL_NOT_IMPLEMENTED
            return 0
