"""Our own handshake with an origin, before anybody is let through to it unread because of its name.

The name in a ClientHello is what the client says.  A program may send the name of a bank to an address of its own; so
an address counts as a name's only once it has shown a certificate for it, and the key, to us.  What this cannot tell:
whether it is the origin itself or a relay that hands our handshake on to it.
"""

import asyncio
import contextlib
import socket
from collections import OrderedDict

from OpenSSL import SSL

from proxy.destination import Address, words
from proxy.dialled import dialled
from proxy.origins import Origins
from proxy.upstream import tolerated

#: Seconds that an answer holds.  A name keeps its addresses for longer; a failure may have passed after a moment, but a
#: browser's ten connections to one page must not each wait for the same one.
GOOD_FOR, BAD_FOR = 300.0, 20.0
#: Answers kept: a busy computer's bypassed names with several addresses each; some 300 bytes each.
MAX_ANSWERS = 4096
#: Bytes read at once, more than most servers' whole flight.
CHUNK = 16384
#: OpenSSL's state once our Finished of TLS 1.2 has gone, and the names of suites with which the origin's certificate is
#: verified by then, and its key has signed our random bytes (ServerKeyExchange, RFC 5246, 7.4.3; RFC 8422, 5.4).
FINISHED, SIGNED = b"SSLv3/TLS write finished", "ECDHE-"

type Question = tuple[Address, str]


class Probe:
    """Remembers which address has shown itself to be which name's."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self.forget()

    def forget(self) -> None:
        """The policy, or the roots that it trusts, are others now."""
        self._answers: OrderedDict[Question, tuple[float, str | None]] = OrderedDict()
        self._running: dict[Question, asyncio.Task[str | None]] = {}

    async def verified(self, address: Address, name: str, limit: float) -> str | None:
        """None if the address has proved to be the name's; otherwise why not, in a few words.

        Whoever asks for what is being asked already waits for the same answer.  `limit` is in seconds, for all of it.
        """
        question, running = (address, name), self._running
        until, answer = self._answers.get(question, (0.0, None))
        if until > asyncio.get_running_loop().time():
            return answer
        if (task := running.get(question)) is None:
            task = running[question] = asyncio.ensure_future(self._ask(question, limit))
            task.add_done_callback(lambda _: running.pop(question))
        return await asyncio.shield(task)       # who stops waiting does not end it for the others

    async def _ask(self, question: Question, limit: float) -> str | None:
        answers = self._answers     # `forget` makes others: what began before it is not remembered
        try:
            async with asyncio.timeout(limit):
                answer = await self._meet(*question)
        except TimeoutError:
            answer = f"no handshake within {limit:g} s"
        except OSError as error:
            answer = words(error)
        except ValueError as error:     # a name that no certificate can be for
            answer = str(error)
        until = asyncio.get_running_loop().time() + (GOOD_FOR if answer is None else BAD_FOR)
        answers[question] = until, answer
        answers.move_to_end(question)
        if len(answers) > MAX_ANSWERS:
            answers.popitem(last=False)
        return answer

    async def _meet(self, address: Address, name: str) -> str | None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            origin = self._origins.connect(name)
            await asyncio.get_running_loop().sock_connect(sock, address)
            dialled.note(sock)
            failure = await _handshake(sock, origin)
            with contextlib.suppress(OSError, SSL.Error):
                origin.shutdown()               # close_notify (RFC 8446, 6.1)
                await _flush(sock, origin)
        # Who may break rules, by the policy's leave, has proved nothing by a handshake.
        for refused in (await self._origins.refusal(origin), *tolerated(origin)):
            if refused:
                return refused.reason
        return failure


async def _handshake(sock: socket.socket, origin: SSL.Connection) -> str | None:
    """Return why it failed, our alert sent; OSError if the connection did.

    It counts as done also where an origin of TLS 1.2 refuses us for want of a certificate, which it can only after our
    Finished: it has shown who it is by then, and the client may well have a certificate.
    """
    loop, proved = asyncio.get_running_loop(), False
    while True:
        try:
            origin.do_handshake()
            await _flush(sock, origin)
            return None
        except SSL.WantReadError:
            proved = origin.get_state_string() == FINISHED and (origin.get_cipher_name() or "").startswith(SIGNED)
            await _flush(sock, origin)
        except SSL.Error as error:
            with contextlib.suppress(OSError):
                await _flush(sock, origin)
            return None if proved else f"the TLS handshake failed: {_words(error)}"
        if not (data := await loop.sock_recv(sock, CHUNK)):
            return None if proved else "it closed during the TLS handshake"
        origin.bio_write(data)


async def _flush(sock: socket.socket, origin: SSL.Connection) -> None:
    with contextlib.suppress(SSL.WantReadError):
        while data := origin.bio_read(CHUNK):
            await asyncio.get_running_loop().sock_sendall(sock, data)


def _words(error: SSL.Error) -> str:
    """OpenSSL's own, of the last entry of its queue: (library, function, reason)."""
    queue = error.args[0] if error.args else ()
    return str(queue[-1][-1]) if queue else type(error).__name__
