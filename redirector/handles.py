"""pydivert's handles: packets out of the network's way and back into it. The one file that imports pydivert, and late.

`Portable` uses pydivert's public interface, the same on Windows (WinDivert) and Linux (eBPF). `Native` calls the
library below it, which costs a third for each packet; it is for Linux, where its functions have been tried.
"""
import ctypes
import sys
from importlib import import_module
from typing import Any, Protocol

from redirector.plan import BackendError

#: Room for the longest IP packet; with segmentation offload one is as long as that.
MAX_PACKET = 65575
#: The kernel library's error for "nothing came in time" (EAGAIN).
_NOTHING = -11
_ADVICE = "pip install 'pydivert>=4.0.1' (Windows: 3.1 or newer)"


class Handle(Protocol):
    """An open filter, and the packet received last."""

    #: The packet; it may be rewritten in place.
    packet: bytearray | memoryview
    name: str

    def receive(self, limit: float) -> int:
        """The length of the next packet, then in `packet`; 0 if none came within `limit` seconds. Raises OSError."""

    def send(self, *, inbound: bool) -> None:
        """Send the packet received last, as it is now; its checksums are made anew. Raises OSError."""

    def inject(self, packet: bytes) -> None:
        """Send a packet of our own inbound, where the last one was received. Raises OSError."""

    def close(self) -> None: ...


def _pydivert() -> Any:
    """Raises BackendError."""
    try:
        module = import_module("pydivert")
    except ImportError as error:
        raise BackendError(f"pydivert is not installed ({error}): {_ADVICE}") from error
    if not hasattr(module, "Divert"):
        raise BackendError(f"pydivert {getattr(module, '__version__', '')} is too old for this: {_ADVICE}")
    return module


def usable() -> str | None:
    """Why pydivert cannot be used here, or None. Asks no right, opens nothing."""
    try:
        module = _pydivert()
    except BackendError as error:
        return str(error)
    if sys.platform.startswith("linux") and import_module("pydivert.bpf").libebpfdivert is None:
        return "pydivert has no library for this machine (Linux on x86-64 or arm64, glibc 2.28)"
    try:
        module.Divert.check_filter("true")
    except (OSError, ImportError, NotImplementedError) as error:
        return f"pydivert: {error}"
    return None


def clean() -> None:
    """Detach what ended processes have left behind. On Windows nothing is: a handle closes with its process."""
    if sys.platform != "win32":
        _pydivert().Divert.unregister()


def packets(rule: str, priority: int, *, portable: bool = False) -> Handle:
    """A handle for outbound packets that match; those of higher priority come first. Raises BackendError."""
    opened = _open(rule, priority)
    return Portable(opened) if portable or sys.platform == "win32" else Native(opened)


def _open(rule: str, priority: int, **more: Any) -> Any:
    module = _pydivert()
    try:
        return module.Divert(rule, priority=priority, **more).open()
    except PermissionError as error:
        raise BackendError(f"pydivert: {error}: run as root (CAP_NET_ADMIN, CAP_BPF, CAP_NET_RAW), or Administrator"
                           ) from error
    except (OSError, NotImplementedError) as error:
        raise BackendError(f"pydivert: {error}") from error


def refuse_binding(rule: str) -> Any:
    """Refuse what matches at the SOCKET layer, as long as what is returned is open. Raises BackendError."""
    module = _pydivert()
    return _open(rule, 0, layer=module.Layer.SOCKET, flags=module.Flag.RECV_ONLY)


class Portable:
    """By pydivert's public interface alone."""

    name = "portable"

    def __init__(self, opened: Any) -> None:
        self._divert, self._last = opened, None
        module = _pydivert()
        self._inbound, self._make = module.Direction.INBOUND, module.Packet
        self.packet: bytearray | memoryview = bytearray()

    def receive(self, limit: float) -> int:
        try:
            self._last = self._divert.recv(timeout=limit)
        except TimeoutError:
            return 0
        self.packet = self._last.raw  # type: ignore[attr-defined]
        return len(self.packet)

    def send(self, *, inbound: bool) -> None:
        packet: Any = self._last
        if inbound:
            packet.direction = self._inbound
        self._divert.send(packet)

    def inject(self, packet: bytes) -> None:
        last: Any = self._last
        made = self._make(packet, interface=last.interface, direction=self._inbound)
        self._divert.send(made)

    def close(self) -> None:
        self._divert.close()


class Native:
    """By libebpfdivert, whose functions and structures are those of WinDivert."""

    name = "native"

    def __init__(self, opened: Any) -> None:
        self._divert = opened
        library = import_module("pydivert.bpf").libebpfdivert
        self._receive, self._send = library.ebpfdivert_recv, library.ebpfdivert_send
        self._checksums = library.ebpfdivert_helper_calc_checksums
        self._handle = opened._impl._handle
        memory = bytearray(MAX_PACKET)
        self.packet: bytearray | memoryview = memory
        self._buffer = (ctypes.c_char * MAX_PACKET).from_buffer(memory)
        self._address = import_module("pydivert.windivert_dll").WinDivertAddress()
        self._length, self._sent = ctypes.c_uint32(), ctypes.c_uint32()
        self._address_at, self._length_at, self._sent_at = map(
            ctypes.byref, (self._address, self._length, self._sent))

    def receive(self, limit: float) -> int:
        code = self._receive(self._handle, self._buffer, MAX_PACKET, self._length_at, self._address_at,
                             int(limit * 1000))
        if code >= 0:
            return self._length.value
        if code == _NOTHING:
            return 0
        raise OSError(-code, "ebpfdivert_recv")

    def send(self, *, inbound: bool) -> None:
        if inbound:
            self._address.Outbound = 0
        self._out(self._buffer, self._length.value)

    def inject(self, packet: bytes) -> None:
        self._address.Outbound = 0
        self._out((ctypes.c_char * len(packet)).from_buffer_copy(packet), len(packet))

    def _out(self, buffer: Any, length: int) -> None:
        self._checksums(buffer, length, self._address_at, 0)
        if (code := self._send(self._handle, buffer, length, self._sent_at, self._address_at)) < 0:
            raise OSError(-code, "ebpfdivert_send")

    def close(self) -> None:
        self._handle = None
        self._divert.close()
