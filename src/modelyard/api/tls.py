"""A server's TLS: modern forms of it only, and certificates that are renewed without a restart.

Sources: RFC 9325 (recommendations for TLS); RFC 7301 (ALPN).
"""

import logging
import os
import ssl
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from modelyard.core.errors import Invalid

_log: Final = logging.getLogger(__name__)

HANDSHAKE_S: Final = 10.0
"""How long a caller may take to shake hands."""
SHUTDOWN_S: Final = 2.0
"""How long its good-bye is waited for."""
_LOOK_S: Final = 1.0
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
"""Of TLS 1.2; the ciphers of 1.3 are all good."""

Spoken = Literal["h2", "http/1.1"]
_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: the server's certificates and their key, and who vouches for clients.

    Without a `key` it is in the certificate's file. With a `client_ca` callers may show a
    certificate, and where `demands_client` they must; TLS 1.3 alone is spoken then.
    """

    certificate: Path
    key: Path | None = None
    client_ca: Path | None = None
    demands_client: bool = False

    @property
    def all(self) -> tuple[Path, ...]:
        """Those that are there."""
        return tuple(
            each for each in (self.certificate, self.key, self.client_ca) if each is not None
        )


class Tls:
    """What a server shakes hands with; raises `Invalid` where the files are no good.

    The files are looked at with a handshake, at most once a second. What they say now holds for
    that handshake on; connections that are open go on. Where they are broken, what they said
    before holds, and the log says so.
    """

    def __init__(self, files: TlsFiles, spoken: Spoken) -> None:
        self._files = files
        self._spoken = spoken
        self._stamp = self._look()
        self.context: Final = self._make()
        # The one hook that an event loop leaves between a caller's first words and our answer.
        self.context.sni_callback = self._choose
        self._current = self.context
        self._looked_at = time.monotonic()
        self._warn_of_readers()

    def _choose(self, handshake: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Shake hands with the certificates as they are now, whatever host is asked for."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            self._renew()
        if self._current is not self.context:
            handshake.context = self._current

    def _renew(self) -> None:
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._current = self._make()
        except Invalid as error:
            _log.error("the new certificates are not used, the old ones go on: %s", error.message)
        else:
            self._warn_of_readers()
            _log.warning("the certificates of %s are new", self._files.certificate)

    def _look(self) -> _Stamp:
        try:
            found = [os.stat(file) for file in self._files.all]  # noqa: PTH116 - through links
        except OSError as error:
            raise _unreadable(Path(error.filename), error) from None
        return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in found)

    def _make(self) -> ssl.SSLContext:
        files = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols([self._spoken])
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        try:
            context.load_cert_chain(files.certificate, files.key, _no_password)
        except OSError as error:
            raise _unreadable(files.key or files.certificate, error) from None
        if files.client_ca is not None:
            try:
                context.load_verify_locations(files.client_ca)
            except OSError as error:
                raise _unreadable(files.client_ca, error, "tls_client_ca") from None
            context.verify_mode = ssl.CERT_REQUIRED if files.demands_client else ssl.CERT_OPTIONAL
            # A session that is taken up again would bring a certificate that nobody looks at anew;
            # of TLS 1.2 the server's memory of them cannot be switched off from here.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.num_tickets = 0
        return context

    def _warn_of_readers(self) -> None:
        file = self._files.key or self._files.certificate
        if file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            _log.warning(
                "the private key %s can be read by every user of this machine: run "
                "'chmod o-rwx' on it",
                file,
            )


def _no_password() -> str:
    raise Invalid(
        "bad_certificate",
        "the private key is encrypted with a password, which a server cannot ask for; keep it in "
        "the clear, in a file that only the server's user can read",
        field="tls_key",
    )


def _unreadable(file: Path, error: OSError, field: str = "tls_certificate") -> Invalid:
    if isinstance(error, ssl.SSLError):
        why = {
            "KEY_VALUES_MISMATCH": "the private key is not the certificate's",
            "NO_CERTIFICATE_OR_CRL_FOUND": "there is no certificate in it",
        }.get(error.reason, f"it holds no usable PEM ({error.reason or 'unreadable'})")
    else:
        why = os.strerror(error.errno) if error.errno else "it cannot be read"
    return Invalid("bad_certificate", f"TLS cannot use {file}: {why}", field=field)
