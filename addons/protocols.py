"""Which protocol a connection speaks, by what it announces, its first bytes, or its port."""

import re
from typing import Final

#: Bytes of either side that tell; the longest mark, PostgreSQL's, ends at 8, and texts within a line.
ENOUGH: Final = 64

#: IANA, "TLS ALPN Protocol IDs", where they are of other protocols than HTTP.
ALPN: Final = {
    "acme-tls/1": "acme", "dot": "dns", "doq": "dns", "ftp": "ftp", "imap": "imap", "pop3": "pop3", "irc": "irc",
    "managesieve": "sieve", "mqtt": "mqtt", "nntp": "nntp", "nnsp": "nntp", "ntske/1": "ntp", "smtp": "smtp",
    "radius/1.0": "radius", "radius/1.1": "radius", "sip/2": "sip", "smb": "smb", "stun.turn": "stun",
    "stun.nat-discovery": "stun", "sunrpc": "rpc", "tds/8.0": "tds", "webrtc": "webrtc", "c-webrtc": "webrtc",
    "xmpp-client": "xmpp", "xmpp-server": "xmpp", "coap": "coap", "co": "coap", "amqp": "amqp",
    "x-amzn-mqtt-ca": "mqtt", "postgresql": "postgresql",
}  # fmt: skip
#: IANA, "Service Name and Transport Protocol Port Number Registry": what is behind a port mostly, and no proof.
PORTS: Final = {
    21: "ftp", 22: "ssh", 23: "telnet", 25: "smtp", 53: "dns", 110: "pop3", 119: "nntp", 143: "imap", 389: "ldap",
    445: "smb", 465: "smtp", 554: "rtsp", 563: "nntp", 587: "smtp", 636: "ldap", 853: "dns", 873: "rsync", 990: "ftp",
    993: "imap", 995: "pop3", 1433: "tds", 1883: "mqtt", 1935: "rtmp", 3306: "mysql", 3389: "rdp", 4190: "sieve",
    5060: "sip", 5061: "sip", 5222: "xmpp", 5223: "xmpp", 5269: "xmpp", 5432: "postgresql", 5671: "amqp", 5672: "amqp",
    5900: "vnc", 6379: "redis", 6667: "irc", 6697: "irc", 8883: "mqtt", 9092: "kafka", 9418: "git", 27017: "mongodb",
}  # fmt: skip
PORT_CONFIDENCE: Final = 0.5

_CLIENT: Final = (
    ("ssh", re.compile(rb"SSH-[12]\.")),
    ("tls", re.compile(rb"\x16\x03[\0-\4]")),
    ("http/2", re.compile(rb"PRI \* HTTP/2\.0")),
    ("smtp", re.compile(rb"(?i)(?:EHLO|HELO|LHLO) ")),
    ("imap", re.compile(rb"(?i)[a-z0-9.]{1,12} (?:CAPABILITY|LOGIN|AUTHENTICATE|STARTTLS|ID)\b")),
    ("pop3", re.compile(rb"(?i)(?:CAPA|APOP [^\r\n]+)\r?\n")),
    ("ftp", re.compile(rb"(?i)(?:AUTH TLS|AUTH SSL|FEAT)\r?\n")),
    ("irc", re.compile(rb"(?i)(?:NICK|CAP LS|PASS|USER) ?[^\r\n]{0,60}\r?\n(?:USER|NICK|CAP)")),
    ("xmpp", re.compile(rb"\s*(?:<\?xml[^>]{0,60}\?>\s*)?<(?:stream:stream|open)\b")),
    ("mqtt", re.compile(rb"\x10[\0-\xff]{1,4}\0(?:\x04MQTT|\x06MQIsdp)", re.DOTALL)),
    ("amqp", re.compile(rb"AMQP[\0-\3]")),
    ("postgresql", re.compile(rb"\0\0\0\x08\x04\xd2\x16[\x2f\x30]|\0\0[\0-\xff]{2}\0\x03\0\0user\0", re.DOTALL)),
    ("redis", re.compile(rb"\*\d{1,3}\r\n\$\d")),
    ("rdp", re.compile(rb"\x03\0\0[\x08-\xff]..\0\0\0\0\0|\x03\0\0.\x0e?\xe0", re.DOTALL)),
    ("tds", re.compile(rb"\x12\x01\0[\0-\xff]\0\0[\0\1]\0\0\0", re.DOTALL)),
    ("smb", re.compile(rb"\0..[\0-\xff][\xff\xfe]SMB", re.DOTALL)),
    ("ldap", re.compile(rb"\x30[\0-\x7f\x81-\x84].{0,4}?\x02\x01.[\x60\x63\x77]", re.DOTALL)),
    ("bittorrent", re.compile(rb"\x13BitTorrent protocol")),
    ("git", re.compile(rb"[0-9a-f]{4}git-(?:upload|receive)-pack ")),
    ("rsync", re.compile(rb"@RSYNCD:")),
    ("sip", re.compile(rb"[A-Z]{3,10} sips?:[^\r\n ]+ SIP/2\.0")),
    ("rtsp", re.compile(rb"[A-Z_]{3,13} rtsp://")),
    ("socks", re.compile(rb"\x05[\1-\4][\0-\3]|\x04[\1\2]..[^\0]", re.DOTALL)),
    ("stun", re.compile(rb"\0[\1\3]..\x21\x12\xa4\x42", re.DOTALL)),
    ("openvpn", re.compile(rb"\0.\x38[\0-\xff]{8}\0\0\0\0\0", re.DOTALL)),
)  # fmt: skip
_SERVER: Final = (
    ("ssh", re.compile(rb"SSH-[12]\.")),
    ("smtp", re.compile(rb"220[ -][^\r\n]*(?:SMTP|mail)", re.IGNORECASE)),
    ("ftp", re.compile(rb"220[ -]")),
    ("imap", re.compile(rb"\* (?:OK|PREAUTH|BYE)\b")),
    ("pop3", re.compile(rb"\+OK\b")),
    ("nntp", re.compile(rb"20[01] ")),
    ("vnc", re.compile(rb"RFB \d{3}\.")),
    ("mysql", re.compile(rb"[\x20-\xff]\0\0\0\x0a\d+\.\d+")),
    ("rsync", re.compile(rb"@RSYNCD:")),
)


def by_bytes(client: bytes, server: bytes = b"") -> str:
    """Return the protocol that the first bytes of a connection are of; empty if they tell nothing."""
    for marks, head in ((_CLIENT, client[:ENOUGH]), (_SERVER, server[:ENOUGH])):
        for name, mark in marks:
            if mark.match(head):
                return name
    return ""


def by_offer(alpn: tuple[str, ...], port: int) -> tuple[str, float]:
    """Return the protocol that a client offers (ALPN) or its port suggests, and how sure that is; empty if neither."""
    named = {ALPN[offer] for offer in alpn if offer in ALPN}
    if len(named) == 1 and not {"h2", "http/1.1"} & set(alpn):
        return named.pop(), 1.0
    if not alpn and port in PORTS:
        return PORTS[port], PORT_CONFIDENCE
    return "", 0.0
