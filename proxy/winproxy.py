"""Windows' proxy setting: the user's Internet Settings, which WinINet programs and most browsers follow.

Not run: written after "InternetSetOption" and "Option Flags" of Microsoft's WinINet reference.
"""

import json
import sys
from collections.abc import Mapping

from proxy import pac
from proxy.destination import Address

type Values = Mapping[str, str | None]

PATH = r"Software\Microsoft\Windows\CurrentVersion\Internet Settings"
#: winreg.REG_SZ and REG_DWORD.
TEXT, NUMBER = 1, 4
#: InternetSetOption: programs that run read the setting again.
SETTINGS_CHANGED, REFRESH = 39, 37


class Registry:
    """HKEY_CURRENT_USER; each value as JSON of its type and content."""

    name = "windows"

    def wanted(self, proxy: Address) -> dict[str, str | None]:
        values = {"ProxyEnable": (NUMBER, 1), "ProxyServer": (TEXT, pac.authority(*proxy)),
                  "ProxyOverride": (TEXT, "localhost;127.*;[::1]")}
        return {name: json.dumps(pair) for name, pair in values.items()} | {"AutoConfigURL": None}

    def read(self, keys: Values) -> dict[str, str | None]:
        return {key: self._value(key) for key in keys}

    def write(self, values: Values) -> None:
        if sys.platform == "win32":
            import winreg

            with winreg.OpenKey(winreg.HKEY_CURRENT_USER, PATH, access=winreg.KEY_SET_VALUE) as folder:
                for name, text in values.items():
                    if text is not None:
                        kind, content = json.loads(text)
                        winreg.SetValueEx(folder, name, 0, kind, content)
                    elif self._value(name) is not None:
                        winreg.DeleteValue(folder, name)
            _refresh()

    def made(self, keys: Values) -> list[str]:
        return []

    def _value(self, name: str) -> str | None:
        if sys.platform == "win32":
            import winreg

            try:
                with winreg.OpenKey(winreg.HKEY_CURRENT_USER, PATH) as folder:
                    content, kind = winreg.QueryValueEx(folder, name)
            except FileNotFoundError:
                return None
            return json.dumps((kind, content))
        return None


def _refresh() -> None:
    if sys.platform == "win32":
        import ctypes

        for option in (SETTINGS_CHANGED, REFRESH):
            ctypes.windll.wininet.InternetSetOptionW(None, option, None, 0)
