"""The proxy auto-configuration file: a function in JavaScript by which browsers and systems find their proxy.

Source: Netscape, "Navigator Proxy Auto-Config File Format", 1996; MDN, "Proxy Auto-Configuration (PAC) file".
"""

import ipaddress
import json

#: Where the explicit door serves it, and as what (the type that Netscape gave it).
PATH = "/proxy.pac"
TYPE = "application/x-ns-proxy-autoconfig"
#: Never through the proxy: this computer itself.  Names without a dot are not among them: they lead to other computers.
LOCAL = ("localhost", "127.0.0.1", "::1")

_SCRIPT = """\
function FindProxyForURL(url, host) {{
  if (host === "localhost" || shExpMatch(host, "*.localhost") || host === "::1" || host === "[::1]" ||
      /^127\\.[0-9]+\\.[0-9]+\\.[0-9]+$/.test(host)) return "DIRECT";
  return {answer};
}}
"""


def script(host: str, port: int, *, direct: bool = False) -> bytes:
    """Everything goes to the HTTP proxy there, except what stays on this computer.

    With `direct`, which `fail: open` asks for, clients may go on without a proxy that does not answer.
    """
    answer = f"PROXY {authority(host, port)}" + ("; DIRECT" if direct else "")
    return _SCRIPT.format(answer=json.dumps(answer)).encode()


def authority(host: str, port: int) -> str:
    """Host and port as URLs write them (RFC 3986, 3.2)."""
    try:
        return f"[{host}]:{port}" if ipaddress.ip_address(host).version == 6 else f"{host}:{port}"
    except ValueError:
        return f"{host}:{port}"
