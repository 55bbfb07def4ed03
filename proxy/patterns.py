"""Host patterns as policies write them, and how they are compared."""

import re

LABEL = "label:"
NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


def host_pattern(text: str) -> str:
    """Return a pattern in the form in which host names are compared; ValueError if it could match none."""
    prefix = "*." if text.startswith("*.") else ""
    name = text.removeprefix(prefix).removesuffix(".")
    if not name.isascii():
        name = name.encode("idna").decode()
    if not NAME.fullmatch(name := name.lower()):
        raise ValueError(f"{text!r} is not a host pattern: write host.example, or *.host.example for names below it")
    if name.replace(".", "").isdigit():
        raise ValueError(f"{text!r} is an address: write it under `addresses` of a connection rule")
    return prefix + name


def host_or_label(text: str) -> str:
    """Like `host_pattern`, and `label:NAME` stands for every connection with that label."""
    return text if text.startswith(LABEL) and text != LABEL else host_pattern(text)


def matches_host(pattern: str, host: str) -> bool:
    """Tell whether `*.a.b` (every name below a.b) or `a.b` (that name alone) covers `host`."""
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
