"""Has a headless Firefox show each URL, and prints the pages' text; Firefox listens to Marionette's messages.

The first argument is a profile in which it may trust whom it likes.
"""

import json
import socket
import subprocess
import sys
import time

#: Where Firefox listens unless it is told otherwise; and seconds for it to start on a busy machine.
PORT, START = 2828, 60


class Marionette:
    """A message is its length, a colon and JSON: [0, number, command, parameters], answered by [1, number, error, result]."""

    def __init__(self) -> None:
        until = time.monotonic() + START
        while True:
            try:
                self.sock = socket.create_connection(("127.0.0.1", PORT))
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        self.file = self.sock.makefile("rb")
        self._read()        # its greeting

    def _read(self) -> list:
        size = b""
        while (digit := self.file.read(1)) not in (b":", b""):
            size += digit
        return json.loads(self.file.read(int(size)))

    def ask(self, command: str, **parameters: object) -> object:
        message = json.dumps([0, 1, command, parameters])
        self.sock.sendall(f"{len(message)}:{message}".encode())
        _, _, error, result = self._read()
        if error:
            raise ValueError(error["message"])
        return result


profile, *urls = sys.argv[1:]
command = ["firefox-esr", "--headless", "--no-remote", "--marionette", "--profile", profile, "about:blank"]
with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
    try:
        browser = Marionette()
        browser.ask("WebDriver:NewSession")
        for url in urls:
            print("==", url)
            try:
                browser.ask("WebDriver:Navigate", url=url)
                print(browser.ask("WebDriver:GetPageSource")["value"])
            except ValueError as error:
                print(error)
    finally:
        process.kill()
