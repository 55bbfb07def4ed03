"""OCSP (RFC 6960): the question, and what an answer, stapled or fetched, says about one certificate."""

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from proxy.evidence import Status, Unusable, check_signature, extension, revoked, usable_until

#: Answers are a few KB, most of it the responder's certificate.
MAX_ANSWER = 64 * 1024
#: What an answer counts at most, whatever it says: public CAs make new ones at least every 4 days (CABF 4.9.10).
MAX_AGE = timedelta(days=7)


def question(certificate: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """Return the DER request.

    SHA-1 names the issuer, as every responder expects (RFC 5019, 2.1.1): nothing rests on its strength.  There is no
    nonce: most responders leave it out of their answers, which would have to be forgiven, so it would prove nothing.
    """
    request = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA1())  # noqa: S303
    return request.build().public_bytes(serialization.Encoding.DER)


def read(data: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Status:
    """Return what a DER answer says.  Unusable if it is not valid now, not about this certificate, or not its CA's."""
    try:
        return _read(data, certificate, issuer, now)
    except Unusable:
        raise
    except Exception as error:      # the parsers have many, some only at first use; what they reject says nothing
        raise Unusable(f"the OCSP answer cannot be read: {error}") from error


def _read(data: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Status:
    if len(data) > MAX_ANSWER:
        raise Unusable("the OCSP answer is too long")
    answer = ocsp.load_der_ocsp_response(data)
    if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise Unusable(f"the OCSP responder says {answer.response_status.name.lower().replace('_', ' ')}")
    single = next((each for each in answer.responses if _is_about(each, certificate, issuer)), None)
    if single is None:
        raise Unusable("the OCSP answer is about another certificate")
    signer = _signer(answer, issuer, now)
    check_signature(signer.public_key(), answer.signature, answer.tbs_response_bytes, answer.signature_hash_algorithm)
    made = single.this_update_utc
    end = min(single.next_update_utc or made + MAX_AGE, made + MAX_AGE)
    until = usable_until(made, end, now)
    if single.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
        raise Unusable("the OCSP responder does not know it")
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        return Status(revoked(single.revocation_time_utc, single.revocation_reason), until)
    return Status("", until)


def _is_about(single: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    wanted = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, single.hash_algorithm).build()
    return (single.serial_number, single.issuer_name_hash, single.issuer_key_hash) == \
        (wanted.serial_number, wanted.issuer_name_hash, wanted.issuer_key_hash)


def _signer(answer: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> x509.Certificate:
    """Return the CA itself, or the responder to which the CA gave this task by a certificate (RFC 6960, 4.2.2.2).

    Whether that certificate is revoked in turn is not asked: CAs say by ocsp-nocheck, or its short life, not to.
    """
    if _is_signer(answer, issuer):
        return issuer
    signer = next((each for each in answer.certificates if _is_signer(answer, each)), None)
    if signer is None:
        raise Unusable("the OCSP answer is signed by somebody unknown")
    check_signature(issuer.public_key(), signer.signature, signer.tbs_certificate_bytes,
                    signer.signature_hash_algorithm, signer.signature_algorithm_parameters)
    usage = extension(signer, x509.ExtendedKeyUsage)
    if signer.issuer != issuer.subject or usage is None or ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
        raise Unusable("the OCSP answer's signer may not sign for the CA")
    if not signer.not_valid_before_utc <= now <= signer.not_valid_after_utc:
        raise Unusable("the OCSP answer's signer has run out")
    return signer


def _is_signer(answer: ocsp.OCSPResponse, candidate: x509.Certificate) -> bool:
    if answer.responder_name is not None:
        return candidate.subject == answer.responder_name
    return x509.SubjectKeyIdentifier.from_public_key(candidate.public_key()).digest == answer.responder_key_hash
