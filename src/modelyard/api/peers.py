"""Who is at the other end of a connection, as its socket and its TLS handshake say it."""

import asyncio
import hashlib
import ssl

from modelyard.core.identity import UNKNOWN_PEER, Certificate, Peer


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """The peer of a connection. No header is believed, `X-Forwarded-For` least of all.

    Some microseconds, and some tens where there is a certificate: once for a connection.
    """
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple):
        address = str(name[0])
    elif name is None:
        return UNKNOWN_PEER
    else:
        address = "unix"
    return Peer(address=address, certificate=_certificate(transport))


def _certificate(transport: asyncio.BaseTransport) -> Certificate | None:
    """The client's certificate, where the handshake has asked for one and verified it."""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None or tls.context.verify_mode is ssl.CERT_NONE:
        return None
    encoded = tls.getpeercert(binary_form=True)
    return None if not encoded else read_certificate(encoded)


def read_certificate(encoded: bytes) -> Certificate:
    """What a certificate in DER says of whom it is for."""
    from cryptography import x509

    parsed = x509.load_der_x509_certificate(encoded)
    names: tuple[str, ...] = ()
    try:
        alternatives = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    else:
        names = tuple(
            str(each.value)
            for each in alternatives
            if isinstance(
                each,
                x509.DNSName | x509.IPAddress | x509.RFC822Name | x509.UniformResourceIdentifier,
            )
        )
    return Certificate(
        subject=parsed.subject.rfc4514_string(),
        sha256=hashlib.sha256(encoded).hexdigest(),
        names=names,
        expires_at=parsed.not_valid_after_utc.timestamp(),
    )
