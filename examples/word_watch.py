#!/usr/bin/env python3
"""A filter in a program of its own, for `use: external.External`: blocks what holds a word.  Usage: word_watch.py WORD

The protocol is lines of JSON (docs/filters.md), so it could be in any language.
"""

import base64
import json
import sys

word = sys.argv[1].encode()
bodies: dict[int, bytes] = {}

for line in sys.stdin:
    told = json.loads(line)
    if told["type"] == "message":
        bodies[told["id"]] = b""
    elif told["type"] == "body":
        bodies[told["id"]] += base64.b64decode(told["data"])
    elif told["type"] == "end":
        at = bodies.pop(told["id"]).find(word)
        verdict = {"type": "verdict", "id": told["id"], "action": "none"}
        if at >= 0:
            verdict |= {"action": "block", "reason": "it holds the word",
                        "findings": [{"rule": "word", "where": "body", "start": at, "end": at + len(word)}]}
        print(json.dumps(verdict), flush=True)
