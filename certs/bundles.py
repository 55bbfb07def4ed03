"""The file in which a system keeps the roots that it trusts."""

from collections.abc import Iterable
from pathlib import Path

#: Where systems keep their bundle of trusted roots (Debian, Fedora, Alpine, openSUSE, macOS).
SYSTEM_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem",
                  "/etc/ssl/ca-bundle.pem")


def system_bundle(places: Iterable[str | Path] = SYSTEM_BUNDLES) -> Path | None:
    """Return the first bundle that is there; None on a system without one, as Windows is."""
    return next((path for path in map(Path, places) if path.is_file()), None)
