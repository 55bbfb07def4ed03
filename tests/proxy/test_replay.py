"""Recorded traffic gets the verdicts that the live would have got; two policies are told apart; bad files name the place."""

import base64
import json
import time

import pytest
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow, tutils
from mitmproxy.websocket import WebSocketMessage
from wsproto.frame_protocol import Opcode

from proxy.cli import main
from proxy.recorded import MAX_HAR, RecordedError, flows

CARD = "4111 1111 1111 1111"
STRICT = """
version: 1
connections: [{id: bank, verdict: bypass, hosts: [bank.example]}]
filters:
  - {id: hosts, use: blocklist.Hosts, with: {hosts: [ads.example]}}
  - {id: cards, use: cards.Cards}
  - {id: downloads, use: cards.Cards, with: {responses: true, action: alert}}
"""


def entry(url, body=None, answer="fine", status=200, **more):
    post = {} if body is None else {"postData": {"mimeType": "text/plain", "text": body}}
    return {"startedDateTime": "2026-01-02T03:04:05Z", "time": 1, **more,
            "request": {"method": "GET" if body is None else "POST", "url": url, "httpVersion": "h2",
                        "headers": [{"name": ":authority", "value": "x"}, {"name": "Accept", "value": "*/*"},
                                    {"name": "Content-Encoding", "value": "gzip"}], **post},
            "response": {"status": status, "httpVersion": "h2",
                         "headers": [{"name": "content-encoding", "value": "br"}], "content": {"text": answer}}}


def har(*entries):
    return json.dumps({"log": {"version": "1.2", "entries": entries}}).encode()


@pytest.fixture
def replayed(tmp_path, capsys):
    """Replay a file through a policy; returns exit code, rows and what was said on standard error."""

    def run(data, *, policy=STRICT, against=None):
        (tmp_path / "policy.yaml").write_text(policy)
        (tmp_path / "file").write_bytes(data)
        words = ["replay", str(tmp_path / "file"), "--policy", str(tmp_path / "policy.yaml"), "--state", str(tmp_path)]
        if against:
            (tmp_path / "new.yaml").write_text(against)
            words += ["--against", str(tmp_path / "new.yaml")]
        code = main([*words, "--json"])
        json_out, _ = capsys.readouterr()
        assert main(words) == code
        text, said = capsys.readouterr()
        return code, [json.loads(line) for line in json_out.splitlines()], text, said

    return run


WEBSOCKET = {"_webSocketMessages": [{"type": "send", "time": 1, "opcode": 1, "data": "hello"},
                                    {"type": "send", "time": 2, "opcode": 2, "data": base64.b64encode(CARD.encode()).decode()}]}


@pytest.mark.parametrize(("each", "verdict", "rule"), [
    (entry("https://site.example/"), "pass", ""),
    (entry("https://x.ads.example/"), "block", "hosts"),
    (entry("https://bank.example/", CARD), "bypass", "bank"),
    (entry("https://site.example/", CARD), "block", "cards"),
    (entry(f"https://site.example/?q={CARD}"), "block", "cards"),
    (entry("http://site.example/", "x " * 100_000 + CARD), "block", "cards"),
    (entry("https://site.example/", status=0), "pass", ""),
    (entry("wss://site.example/", status=101, **WEBSOCKET), "block", "cards"),
])
def test_a_har_file(replayed, each, verdict, rule):
    code, rows, text, said = replayed(har(each))
    assert (code, [(row["verdict"], row["rule"]) for row in rows]) == (0, [(verdict, rule)])
    assert ("by " + rule in text) == bool(rule)
    assert said == f"1 flows: 1 {verdict}\n"
    assert CARD not in (text + json.dumps(rows)).replace(each["request"]["url"], "")


def test_what_comes_back_is_seen_where_it_is_asked(replayed):
    _, (row,), _, _ = replayed(har(entry("https://site.example/", answer=CARD)))
    assert (row["verdict"], [alert["rule"] for alert in row["alerts"]]) == ("pass", ["downloads"])


def test_a_file_of_mitmproxy(replayed, tmp_path):
    path = tmp_path / "made"
    with path.open("wb") as file:
        writer = FlowWriter(file)
        flow = tflow.tflow(req=tutils.treq(host="site.example", content=CARD.encode(), method=b"POST"), resp=True)
        del flow.request.headers["content-length"]
        writer.add(flow)
        writer.add(tflow.ttcpflow())
        talk = tflow.twebsocketflow()
        talk.websocket.messages = [WebSocketMessage(Opcode.TEXT, True, CARD.encode())]
        writer.add(talk)
    _, rows, _, _ = replayed(path.read_bytes())
    assert [(row["flow"], row["verdict"], row["rule"]) for row in rows] == [(1, "block", "cards"), (3, "block", "cards")]


def test_only_what_another_policy_would_decide_otherwise(replayed):
    data = har(entry("https://site.example/"), entry("https://ads.example/"), entry("https://site.example/", CARD))
    code, rows, text, said = replayed(data, against=STRICT.replace("ads.example", "site.example"))
    assert (code, [row["differs"] for row in rows]) == (1, [True, True, True])
    code, rows, text, said = replayed(data, against=STRICT.replace("ads.example", "other.example"))
    assert (code, [row["differs"] for row in rows]) == (1, [False, True, False])
    assert "ads.example" in text
    assert "site.example" not in text
    assert said == "3 flows: 2 block, 1 pass; 1 would be decided otherwise\n"
    assert replayed(data, against=STRICT)[0] == 0


@pytest.mark.parametrize(("data", "said"), [
    (b"", "empty"),
    (b"hello", "neither a HAR file"),
    (b"{}", "not a HAR file: KeyError"),
    (b"[" * 9, "neither a HAR file"),
    (b'{"log":', "not a HAR file"),
    (b'{"log":' * 90_000, "not a HAR file"),
    (har(entry("https://site.example/"), {"request": {}}), "entry 2: KeyError"),
    (har(entry("gopher://site.example/")), "entry 1: ValueError: not a URL of the web"),
    (har(entry("https://[::1/")), "entry 1: ValueError"),
    (b"5:hello,", "neither a HAR file"),
])
def test_what_is_no_recorded_traffic(tmp_path, capsys, data, said):
    path = tmp_path / "file"
    path.write_bytes(data)
    assert main(["replay", str(path), "--state", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_a_har_file_is_not_read_without_end(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"{")
    with path.open("r+b") as file:
        file.truncate(MAX_HAR + 2)
    began = time.monotonic()
    with pytest.raises(RecordedError, match="larger than"):
        list(flows(path))
    assert time.monotonic() - began < 30
