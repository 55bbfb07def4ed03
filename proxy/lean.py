"""Import this before mitmproxy's addons: it keeps their package from loading them all.

`mitmproxy.addons` imports each of its some 35 addons, and with them flask, ldap3 and more, when any one is asked for:
1.7 of the 2.5 seconds that the worker took to start, and 30 MB.  An empty package with the same path gives the single
modules that are asked for, here or by a filter, and nothing else.
"""

import importlib.util
import sys
import types
from pathlib import Path

spec = importlib.util.find_spec("mitmproxy")
if "mitmproxy.addons" not in sys.modules and spec is not None and spec.submodule_search_locations:
    package = types.ModuleType("mitmproxy.addons")
    package.__path__ = [str(Path(place) / "addons") for place in spec.submodule_search_locations]
    sys.modules["mitmproxy.addons"] = package
