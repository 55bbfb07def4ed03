"""The control channel over a named pipe, as Windows has it. Written to the documentation; **not run on Windows** yet.

`serve` is the redirector's end: it makes the pipe, which only SYSTEM, administrators and the proxy's account may open,
and waits for one client. `python -I -m redirector.pipe FILE` is the redirector as a service runs it. Calls:
CreateNamedPipeW, ConnectNamedPipe, PeekNamedPipe, ConvertStringSecurityDescriptorToSecurityDescriptorW
(learn.microsoft.com, Win32 API).
"""
import ctypes
import os
import sys
import time

from redirector.__main__ import NOT_INSTALLED, run
from redirector.channel import Channel, PeerGone
from redirector.plan import BackendError
from redirector.session import note
from redirector.wire import MAX_LINE, Decoder, Message, ProtocolError, encode

NAME = r"\\.\pipe\lockgate-redirector"
#: Full access for SYSTEM and administrators, reading and writing for LocalService, which the proxy runs as; nobody from
#: another computer (MS-DTYP 2.5.1: D = DACL, D/A = deny/allow, NU = network, SY, BA, LS).
SECURITY = "D:P(D;;GA;;;NU)(A;;GA;;;SY)(A;;GA;;;BA)(A;;GRGW;;;LS)"
#: Seconds between two looks for data: a pipe cannot be selected on.
LOOK = 0.02
# <winbase.h>: two ways, and no second pipe of that name: who has it already is not us
PIPE_ACCESS_DUPLEX, FILE_FLAG_FIRST_PIPE_INSTANCE, PIPE_REJECT_REMOTE_CLIENTS = 0x3, 0x80000, 0x8
ERROR_PIPE_CONNECTED, SDDL_REVISION = 535, 1

if sys.platform == "win32":
    import msvcrt
    from ctypes import wintypes

    class _Attributes(ctypes.Structure):
        """SECURITY_ATTRIBUTES."""

        _fields_ = (("length", wintypes.DWORD), ("descriptor", wintypes.LPVOID), ("inherit", wintypes.BOOL))

    _kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    _advapi = ctypes.WinDLL("advapi32", use_last_error=True)
    _kernel.CreateNamedPipeW.restype = wintypes.HANDLE
    _kernel.CreateNamedPipeW.argtypes = (wintypes.LPCWSTR, *[wintypes.DWORD] * 6, ctypes.POINTER(_Attributes))
    _kernel.ConnectNamedPipe.argtypes = (wintypes.HANDLE, wintypes.LPVOID)
    _kernel.PeekNamedPipe.argtypes = (wintypes.HANDLE, wintypes.LPVOID, wintypes.DWORD, *[wintypes.LPVOID] * 3)
    _kernel.LocalFree.argtypes = (wintypes.HLOCAL,)

    def serve(name: str = NAME) -> "PipeChannel":
        """Wait for the proxy, for as long as it takes. Raises OSError, also where the name is taken."""
        descriptor = wintypes.LPVOID()
        if not _advapi.ConvertStringSecurityDescriptorToSecurityDescriptorW(
                SECURITY, SDDL_REVISION, ctypes.byref(descriptor), None):
            raise ctypes.WinError(ctypes.get_last_error())
        attributes = _Attributes(ctypes.sizeof(_Attributes), descriptor, False)
        handle = _kernel.CreateNamedPipeW(
            name, PIPE_ACCESS_DUPLEX | FILE_FLAG_FIRST_PIPE_INSTANCE, PIPE_REJECT_REMOTE_CLIENTS, 1, MAX_LINE * 16,
            MAX_LINE * 16, 0, ctypes.byref(attributes))
        error = ctypes.get_last_error()
        _kernel.LocalFree(descriptor)
        if handle == wintypes.HANDLE(-1).value:
            raise ctypes.WinError(error)
        if not _kernel.ConnectNamedPipe(handle, None) and ctypes.get_last_error() != ERROR_PIPE_CONNECTED:
            raise ctypes.WinError(ctypes.get_last_error())
        return PipeChannel(msvcrt.open_osfhandle(handle, os.O_RDWR | os.O_BINARY))

    def open_pipe(name: str = NAME) -> "PipeChannel":
        """The proxy's end. Raises OSError."""
        return PipeChannel(os.open(name, os.O_RDWR | os.O_BINARY))

    def _available(descriptor: int) -> int:
        """Bytes that can be read without waiting. Raises PeerGone."""
        count = wintypes.DWORD()
        if not _kernel.PeekNamedPipe(msvcrt.get_osfhandle(descriptor), None, 0, None, ctypes.byref(count), None):
            raise PeerGone(f"the control channel was closed: {ctypes.WinError(ctypes.get_last_error())}")
        return count.value
else:
    def serve(name: str = NAME) -> "PipeChannel":
        raise OSError(f"{name}: pipes of this kind are Windows' own")

    def _available(descriptor: int) -> int:
        raise OSError(f"{descriptor}: pipes of this kind are Windows' own")


class PipeChannel(Channel):
    """A channel over one descriptor that cannot be selected on; what is sent has left when `send` returns."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._decoder, self._pending = descriptor, Decoder(), b""

    def messages(self, limit: float) -> list[Message]:
        """What arrives within `limit` seconds, perhaps nothing. Raises PeerGone, ProtocolError."""
        until = time.monotonic() + limit
        while not (count := _available(self._descriptor)):
            if time.monotonic() >= until:
                return []
            time.sleep(LOOK)
        return self._decoder.feed(os.read(self._descriptor, count))

    def send(self, message: Message) -> None:
        try:
            os.write(self._descriptor, encode(message))
        except OSError as error:
            raise PeerGone(f"the control channel was closed: {error}") from error


def main(arguments: list[str]) -> int:
    """One session after another, as the service manager starts us once. FILE holds the Start, from an administrator."""
    with open(arguments[0], "rb") as file:  # noqa: PTH123
        start = file.read(MAX_LINE).decode().rstrip()
    while True:
        try:
            run(serve(), [start])
        except (BackendError, ProtocolError, PeerGone) as error:
            note(str(error))
        except OSError as error:
            note(str(error))
            return NOT_INSTALLED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
