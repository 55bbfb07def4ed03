"""An origin and its clients that count the bytes of each connection themselves; run by tests/live/test_connections.py.

    counting.py serve PORT...                     until standard input ends; then what it counted, by number, as JSON
    counting.py load HOST PORT COUNT AT_ONCE      HTTP/1.1, one request a connection; what each counted, as JSON

The number of a connection is in its request's path.
"""

import asyncio
import json
import random
import sys

#: Bytes of a body: small pages, and some downloads and uploads.
SIZES = (0, 500, 2_000, 8_000, 30_000, 120_000)


async def serve(ports: list[int]) -> dict[str, list[int]]:
    """Sent and received of each connection, by its number."""
    counted: dict[str, list[int]] = {}

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1].decode()
        _, number, up, down = path.split("/")
        await reader.readexactly(int(up))
        answer = f"HTTP/1.1 200 OK\r\nContent-Length: {down}\r\nConnection: close\r\n\r\n".encode() + b"d" * int(down)
        writer.write(answer)
        counted[number] = [len(answer), len(head) + int(up)]
        await writer.drain()
        writer.write_eof()
        await reader.read()
        writer.close()

    servers = [await asyncio.start_server(attend, "0.0.0.0", port, backlog=1000) for port in ports]
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()
    return counted


async def load(host: str, port: int, count: int, at_once: int) -> dict[str, list[int]]:
    """Own port, sent and received of each connection, by its number."""
    counted: dict[str, list[int]] = {}
    turn = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with turn:
            up, down = random.choice(SIZES), random.choice(SIZES)
            reader, writer = await asyncio.open_connection(host, port)
            head = f"POST /{port}-{number}/{up}/{down} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {up}\r\n\r\n".encode()
            writer.write(head + b"u" * up)
            received = len(await reader.read(-1))
            counted[f"{port}-{number}"] = [writer.get_extra_info("sockname")[1], len(head) + up, received]
            writer.close()
            await writer.wait_closed()

    await asyncio.gather(*(one(number) for number in range(count)))
    return counted


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        print(json.dumps(asyncio.run(serve([int(port) for port in sys.argv[2:]]))))
    else:
        print(json.dumps(asyncio.run(load(sys.argv[2], *(int(each) for each in sys.argv[3:])))))
