"""nftables through libnftables(3), the library below `nft`: a table with the `owner` flag lives as long as its context.

The owner is a netlink socket. Held in this process it closes with it, whatever ends the process, so that no rule of
ours outlives its keeper; and each command answers with the kernel's own error.
"""
import ctypes
from functools import cache

from redirector.plan import BackendError

#: libnftables(3): 1 is the interface of every release since 0.9.
LIBRARY = "libnftables.so.1"

#: What nft says -> what to do about it.
_ADVICE = {
    "Operation not permitted": "run as root (CAP_NET_ADMIN in this network namespace)",
    "cgroupv2 path fails": "the control group is gone, or hidden (by `ip netns exec`: use nsenter --net)",
    "No such file or directory": "this kernel lacks one of nft_redir, nft_fib, nft_reject, nft_ct, nft_socket",
    "Operation not supported": "this kernel is too old: tables with an owner need 5.12",
}


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise BackendError(f"nftables is not installed ({error}): apt install nftables") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_get_error_buffer.restype = library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    return library


class Tables:
    """Holds the tables that it made; they go with `close`, or with the process."""

    def __init__(self) -> None:
        self._library = _library()
        context = self._library.nft_ctx_new(0)
        if not context:
            raise BackendError("libnftables gave no context: is this kernel without nf_tables?")
        self._context: ctypes.c_void_p | None = ctypes.c_void_p(context)
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_buffer_output(self._context)

    def run(self, commands: str) -> str:
        """Apply `commands` as one transaction and return what they print. Raises BackendError: nothing was applied."""
        if self._library.nft_run_cmd_from_buffer(self._context, commands.encode()):
            raise BackendError(explain(self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")))
        return str(self._library.nft_ctx_get_output_buffer(self._context).decode(errors="replace"))

    def close(self) -> None:
        if self._context is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None


def explain(error: str) -> str:
    """The first line of an error of nft, and what to do about it."""
    line = error.strip().partition("\n")[0] or "no reason given"
    advice = next((advice for phrase, advice in _ADVICE.items() if phrase in error), None)
    return f"nftables: {line}" + (f": {advice}" if advice else "")
