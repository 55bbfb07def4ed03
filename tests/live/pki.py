"""A certificate authority of the lab's own: neither lockgate's nor any that a computer trusts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab root")])
#: What Python's VERIFY_X509_STRICT asks of a root.
USAGE = x509.KeyUsage(False, False, False, False, False, True, False, False, False)


def certify(names: Sequence[str], addresses: Sequence[str], folder: Path) -> None:
    """Write `roots.pem`, and `origin.pem` with `origin.key` for these names and addresses."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    subject = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject)
    root = builder(NAME, root_key, x509.BasicConstraints(ca=True, path_length=None), USAGE, subject)
    entries = [*map(x509.DNSName, names), *(x509.IPAddress(ip_address(address)) for address in addresses)]
    leaf = builder(x509.Name([]), key, x509.SubjectAlternativeName(entries), issuer)
    for file, request in {"roots.pem": root, "origin.pem": leaf}.items():
        certificate = request.sign(root_key, hashes.SHA256())
        (folder / file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "origin.key").write_bytes(key.private_bytes(*form))


def builder(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType
) -> x509.CertificateBuilder:
    """A certificate that is valid for a week, still to be signed."""
    now = datetime.now(UTC)
    start, end = now - timedelta(days=1), now + timedelta(days=7)
    found = x509.CertificateBuilder(NAME, name, key.public_key(), x509.random_serial_number(), start, end)
    for extension in extensions:
        critical = isinstance(extension, x509.BasicConstraints | x509.KeyUsage | x509.SubjectAlternativeName)
        found = found.add_extension(extension, critical=critical)
    return found
