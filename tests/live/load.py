"""Clients without rest, as a program of its own: each request is a line, [began, seconds, outcome].

python load.py HOST TRUSTED.pem THREADS
"""

import http.client
import json
import ssl
import sys
import threading
import time

HOST, TRUSTED, THREADS = sys.argv[1], sys.argv[2], int(sys.argv[3])
#: Seconds that a client is ready to wait.
PATIENCE = 15


def ask(context: ssl.SSLContext) -> str:
    connection = http.client.HTTPSConnection(HOST, context=context, timeout=PATIENCE)
    try:
        connection.connect()
        issuer = dict(pair[0] for pair in connection.sock.getpeercert()["issuer"])["commonName"]
        connection.request("GET", "/")
        return f"{connection.getresponse().status} {issuer.split()[0]}"
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def client() -> None:
    context = ssl.create_default_context(cafile=TRUSTED)
    while True:
        began = time.monotonic()
        outcome = ask(context)
        print(json.dumps([began, time.monotonic() - began, outcome]), flush=True)
        time.sleep(0.05)  # or refusals, which come at once, would be all that a computer does


for _ in range(THREADS):
    threading.Thread(target=client, daemon=True).start()
sys.stdin.read()
