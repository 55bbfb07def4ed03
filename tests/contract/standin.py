"""The stand-in for the proxy, as a program of its own: it passes every connection on, by the real proxy's own splice.

    standin.py OPTIONS      (JSON)

    channel     descriptor of its end of the control channel; it sends the heartbeats
    listen      addresses and ports
    original    how it learns where a connection was going: `socket` (SO_ORIGINAL_DST), or `lookup` (Owner.server)
    owners      ask for the owner of each connection, also where its destination is known without
    ports       null, or the lowest and the highest local port for its own connections
    uid         the user that it becomes, once it has read its modules: they may be in a closed home
    log         a file: a line of JSON for each connection, what the redirector said first

A connection that cannot be passed on is reset, and so is one whose destination is not known. It ends with the channel.
"""

import asyncio
import errno
import itertools
import json
import os
import socket
import struct
import sys
from collections import deque
from contextlib import suppress
from typing import Any

from proxy import destination
from proxy.splice import Moved, splice
from redirector import wire

#: Seconds for the redirector to answer; the real proxy waits less, but here it is to be seen what is answered.
ANSWER_LIMIT = 5.0
DIAL_LIMIT = 15.0
#: Seconds without a word from the redirector until it counts as gone; as the real proxy's.
SILENCE_LIMIT = 3.0
#: Tells the origin which connections came by us (origin.py).
PASSED = 63
HOPS = {socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TTL),
        socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)}
HANG_UP = struct.pack("ii", 1, 0)


class StandIn:
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.loop = asyncio.get_running_loop()
        self.channel = socket.socket(fileno=options["channel"])
        self.channel.setblocking(False)
        self.log = os.open(options["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.asked: dict[int, asyncio.Future[wire.Owner]] = {}
        self.idents = itertools.count(1)
        self.own = {(host, port) for host, port in options["listen"]}
        low, high = options["ports"] or (0, 0)
        self.ports = deque(range(low, high + 1) if high else ())
        self.patience: float | None = None      # from Ready on
        self.tasks: set[asyncio.Task[None]] = set()

    def say(self, **fields: Any) -> None:
        os.write(self.log, json.dumps(fields).encode() + b"\n")

    # -- the control channel

    async def talk(self) -> None:
        decoder = wire.Decoder()
        while data := await asyncio.wait_for(self.loop.sock_recv(self.channel, wire.MAX_LINE), self.patience):
            for message in decoder.feed(data):
                match message:
                    case wire.Ready() | wire.Failed():
                        self.patience = SILENCE_LIMIT
                        self.say(answer=wire.encode(message).decode())
                    case wire.Owner() if future := self.asked.pop(message.id, None):
                        future.set_result(message)

    async def beat(self) -> None:
        while True:
            await self.loop.sock_sendall(self.channel, wire.encode(wire.Heartbeat()))
            await asyncio.sleep(wire.HEARTBEAT_INTERVAL)

    async def owner(self, client: destination.Address, server: destination.Address) -> wire.Owner:
        ident = next(self.idents)
        future = self.asked[ident] = self.loop.create_future()
        self.channel.send(wire.encode(wire.Lookup(ident, client, server)))
        async with asyncio.timeout(ANSWER_LIMIT):
            return await future

    # -- connections

    async def accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self.loop.sock_accept(listener)
            task = self.loop.create_task(self.serve(client))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def serve(self, client: socket.socket) -> None:
        with client:
            try:
                await self.pass_on(client)
            except (OSError, TimeoutError) as error:
                self.say(failed=f"{type(error).__name__} {error}")
                with suppress(OSError):
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HANG_UP)

    async def pass_on(self, client: socket.socket) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        server, owner = await self.whither(client)
        process = owner.process if owner else None
        self.say(server=server, pid=process and process.pid, uid=process and process.uid, exe=process and process.exe)
        if server in self.own:
            raise ConnectionRefusedError("it leads to the proxy itself")
        async with asyncio.timeout(DIAL_LIMIT):
            origin = await self.dial(server)
        with origin:
            await splice(client, origin, b"", Moved())

    async def whither(self, client: socket.socket) -> tuple[destination.Address, wire.Owner | None]:
        here = client.getsockname()[:2]
        if self.options["original"] == "socket":
            server = destination.original(client)
            return server, await self.owner(destination.peer(client), server) if self.options["owners"] else None
        owner = await self.owner(destination.peer(client), (destination.plain(here[0]), here[1]))
        if owner.server is None:
            raise ConnectionRefusedError("the redirector does not know it")
        return owner.server, owner

    async def dial(self, server: destination.Address) -> socket.socket:
        for _ in range(len(self.ports) or 1):
            sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_STREAM)
            sock.setblocking(False)
            sock.setsockopt(*HOPS[sock.family], PASSED)
            try:
                if self.ports:
                    self.ports.rotate()
                    sock.bind(("", self.ports[0]))
                await self.loop.sock_connect(sock, server)
                return sock
            except OSError as error:
                sock.close()
                if not self.ports or error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                    raise       # else these four numbers are still remembered (TIME_WAIT)
        raise OSError("no port is free")


async def main(options: dict[str, Any]) -> None:
    standin = StandIn(options)
    for host, port in standin.options["listen"]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=1024, dualstack_ipv6=host == "::")
        listener.setblocking(False)
        standin.tasks.add(asyncio.create_task(standin.accept(listener)))
    beat = asyncio.create_task(standin.beat())
    standin.say(listening=True)
    with suppress(OSError):
        await standin.talk()
    beat.cancel()


def become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


given = json.loads(sys.argv[1])
become(given["uid"])
asyncio.run(main(given))
