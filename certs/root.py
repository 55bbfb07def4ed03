"""The root as everybody but its owner sees it: the certificate, never the key."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

#: A certificate is some hundred bytes; whatever is larger is another kind of file.
MAX_FILE = 64 * 1024


@dataclass(frozen=True)
class Root:
    """A root certificate and the names by which the stores know it."""

    certificate: x509.Certificate

    @classmethod
    def read(cls, path: Path) -> "Root":
        """Read PEM or DER. Raises ValueError if it is not one CA certificate, OSError if it cannot be read."""
        with path.open("rb") as file:
            data = file.read(MAX_FILE)
        try:
            return cls.parse(data)
        except ValueError as error:
            raise ValueError(f"{path} {error}") from None

    @classmethod
    def parse(cls, data: bytes) -> "Root":
        """Read PEM or DER. Raises ValueError if it is not one CA certificate."""
        if b"PRIVATE KEY" in data:
            raise ValueError("holds a private key; give the certificate alone (ca.pem)")
        is_pem = b"-----BEGIN" in data
        try:
            found = x509.load_pem_x509_certificates(data) if is_pem else [x509.load_der_x509_certificate(data)]
        except ValueError:
            raise ValueError("is not a certificate in PEM or DER") from None
        if len(found) != 1:
            raise ValueError(f"holds {len(found)} certificates; one root is expected")
        root = cls(found[0])
        if not root.is_ca:
            raise ValueError(f"is {root.subject}, not a CA, so no store would trust what it signs")
        return root

    @property
    def is_ca(self) -> bool:
        try:
            return self.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            return False

    @cached_property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @cached_property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @cached_property
    def digest(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER form, in the colon notation that browsers and openssl show."""
        return self.certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    @property
    def name(self) -> str:
        """A file name and nickname that no other root has: 64 bits of the digest."""
        return f"lockgate-{self.digest[:16]}"

    @property
    def subject(self) -> str:
        return self.certificate.subject.rfc4514_string()

    @property
    def days_left(self) -> int:
        return (self.certificate.not_valid_after_utc - datetime.now(UTC)).days


def show(root: Root) -> str:
    """Return what a person should compare before trusting this root."""
    certificate = root.certificate
    rows = {
        "subject": root.subject,
        "issuer": certificate.issuer.rfc4514_string(),
        "SHA-256": root.fingerprint,
        "serial": f"{certificate.serial_number:x}",
        "valid": f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
        f" ({root.days_left} days left)",
        "may sign": "certificates for any server name" if _signs(certificate) else "nothing: keyCertSign is missing",
    }
    return "\n".join(f"{key + ':':<10}{value}" for key, value in rows.items())


def export(root: Root, path: Path, form: Literal["pem", "der"] = "pem") -> None:
    """Write the certificate (never the key) to a new file. Raises FileExistsError if there is one."""
    with path.open("xb") as file:
        file.write(root.pem if form == "pem" else root.der)


def _signs(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True  # RFC 5280, section 4.2.1.3: without the extension every use is allowed
