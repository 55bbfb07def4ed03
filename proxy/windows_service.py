"""A process of lockgate as a service of Windows: `python -I -m proxy.windows_service NAME COMMAND ...`.

Written to the documentation; **not run on Windows** yet, where the worker does not start either (README.md). Two
services, as on Linux: `lockgate` runs as LocalService, with the proxy; `lockgate-redirector` as LocalSystem, with
WinDivert. They meet on a named pipe (`redirector/pipe.py`). Calls: StartServiceCtrlDispatcherW,
RegisterServiceCtrlHandlerExW, SetServiceStatus (learn.microsoft.com, Win32 API, Services).
"""

import ctypes
import subprocess
import sys

NAME, REDIRECTOR = "lockgate", "lockgate-redirector"
ACCOUNT = r"NT AUTHORITY\LocalService"
#: Milliseconds that a stop may take before the manager calls it hung.
WAIT_HINT = 60_000
# <winsvc.h>
OWN_PROCESS, STOPPED, STOP_PENDING, RUNNING = 0x10, 1, 3, 4
CONTROL_STOP, CONTROL_INTERROGATE, CONTROL_SHUTDOWN = 1, 4, 5
ACCEPT_STOP, ACCEPT_SHUTDOWN = 1, 4
ERROR_CALL_NOT_IMPLEMENTED = 120


def commands(python: str, policy: str, start: str) -> list[list[str]]:
    """What installs both services, by sc.exe: least rights by account, restarted a second after any end."""
    redirector = [python, "-I", "-m", "redirector.pipe", start]
    proxy = [python, "-I", "-m", "proxy.serving", "run", "--policy", policy]
    made = []
    for name, command, account in ((REDIRECTOR, redirector, "LocalSystem"), (NAME, proxy, ACCOUNT)):
        run = subprocess.list2cmdline([python, "-I", "-m", "proxy.windows_service", name, *command])
        made.append(["sc.exe", "create", name, "binPath=", run, "start=", "auto", "obj=", account])
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
        """Runs a command until the manager says stop, or it ends."""

        def __init__(self, name: str, command: list[str]) -> None:
            self._name, self._command = name, command
            self._process: subprocess.Popen[bytes] | None = None
            self._handle: int | None = None
            self._main, self._handler = _MAIN(self._run), _HANDLER(self._control)   # kept: Windows calls them later

        def dispatch(self) -> None:
            """Return when the service has stopped. Raises OSError where no manager started us."""
            table = (_Entry * 2)(_Entry(self._name, self._main), _Entry(None, _MAIN()))
            if not _advapi.StartServiceCtrlDispatcherW(table):
                raise ctypes.WinError(ctypes.get_last_error())

        def _tell(self, state: int, exit_code: int = 0) -> None:
            accepted = ACCEPT_STOP | ACCEPT_SHUTDOWN if state == RUNNING else 0
            hint = WAIT_HINT if state == STOP_PENDING else 0
            status = _Status(OWN_PROCESS, state, accepted, exit_code, 0, 0, hint)
            _advapi.SetServiceStatus(self._handle, ctypes.byref(status))

        def _run(self, _count: int, _arguments: object) -> None:
            self._handle = _advapi.RegisterServiceCtrlHandlerExW(self._name, self._handler, None)
            self._process = subprocess.Popen(self._command)
            self._tell(RUNNING)
            self._tell(STOPPED, self._process.wait())

        def _control(self, control: int, _kind: int, _data: object, _context: object) -> int:
            if control in (CONTROL_STOP, CONTROL_SHUTDOWN):
                self._tell(STOP_PENDING)
                if self._process is not None:
                    self._process.terminate()
            elif control != CONTROL_INTERROGATE:
                return ERROR_CALL_NOT_IMPLEMENTED
            return 0

    if __name__ == "__main__":
        Service(sys.argv[1], sys.argv[2:]).dispatch()
