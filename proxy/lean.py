"""Imported by the package before all else: keeps mitmproxy's addons package from loading them all.

`mitmproxy.addons` imports each of its some 35 addons, and with them flask, ldap3 and more, when any one is asked for:
1.7 of the 2.5 seconds that the worker took to start, and 30 MB.  An empty package with the same path gives the single
modules that are asked for, here or by a filter, and nothing else.
"""

import importlib.util
import sys
import types

if "mitmproxy.addons" not in sys.modules:
    spec = importlib.util.find_spec("mitmproxy.addons")
    assert spec is not None
    package = types.ModuleType("mitmproxy.addons")
    package.__path__ = list(spec.submodule_search_locations or [])
    package.__spec__ = spec
    sys.modules["mitmproxy.addons"] = package
