"""An issuer's public keys: fetched in a thread of their own, kept, and asked for by id.

Nobody who sends tokens decides when the issuer is asked: an id that is not known brings one fetch
at most in `_BETWEEN_S`. While the issuer is away, the keys that it last told go on, for a time.
"""

import contextlib
import ipaddress
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from modelyard.core.errors import Invalid, MissingExtra, ModelyardError, Unavailable

_log = logging.getLogger(__name__)

ALGORITHMS: Final[Mapping[str, tuple[str, str]]] = {
    "RS256": ("RSA", ""),
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
"""What a token may be signed with: the type and the curve of its key. Nothing symmetric, and never
`none`."""

_FRESH_S: Final = 300.0
_BETWEEN_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 60.0
_KEEP_S: Final = 86_400.0
_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 1024 * 1024
_MOST_KEYS: Final = 100
_MOST_UNKNOWN: Final = 1000
_LEAST_RSA_DIGITS: Final = 342
"""Of base64: 2048 bits."""
_DISCOVERY: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """One public key: which algorithms it may have signed with, and what the library takes."""

    id: str
    algorithms: frozenset[str]
    key: Any


class _Kept(msgspec.Struct, frozen=True):
    """What is written down between two lives of a server."""

    issuer: str
    fetched_at: float
    document: msgspec.Raw


Fetch = Callable[[str], bytes]
"""Gets a document; raises whatever goes wrong."""


class IssuerKeys:
    """The keys of one issuer. `find` is for the event loop; the thread does the rest.

    With `url` empty the issuer's own discovery document says where they are. `file` is where they
    are remembered. Use `start` and `stop`.
    """

    def __init__(
        self,
        issuer: str,
        url: str = "",
        *,
        file: Path | None = None,
        fetch: Fetch | None = None,
        fresh_s: float = _FRESH_S,
        between_s: float = _BETWEEN_S,
        keep_s: float = _KEEP_S,
    ) -> None:
        self._issuer = issuer
        self._url = url
        self._file = file
        self._fetch = fetch or fetch_document
        self._fresh_s, self._between_s, self._keep_s = fresh_s, between_s, keep_s
        check_url(issuer, "oidc_issuer")
        if url:
            check_url(url, "oidc_jwks_url")
        self._keys: tuple[VerifyingKey, ...] = ()
        self._fetched_at = 0.0
        self._answered_at = float("-inf")
        self._unknown: dict[str, float] = {}
        self._failures = 0
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Recall what was known, and begin to fetch; an issuer that is away stops nobody."""
        self._recall()
        self._thread = threading.Thread(target=self._follow, name="oidc-keys", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a fetch that runs is not waited for longer than it may take."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(2 * _TIMEOUT_S)

    def find(self, key_id: str, algorithm: str) -> VerifyingKey | None:
        """The key of that id, or the only one that fits where the token names none.

        None for one that the issuer has not, as far as it was asked lately. Raises `Unavailable`
        where that is not known: the thread is asking, or the issuer has been away for too long.
        """
        if time.time() - self._fetched_at <= self._keep_s:
            fitting = [each for each in self._keys if algorithm in each.algorithms]
            if key_id:
                fitting = [each for each in fitting if each.id == key_id]
            if len(fitting) == 1:
                return fitting[0]
            if self._is_answered(key_id):
                return None
        self._wake.set()
        raise _unverified()

    def _is_answered(self, key_id: str) -> bool:
        """Whether the issuer was asked since somebody first came with this unknown id."""
        first = self._unknown.get(key_id)
        if first is None:
            if len(self._unknown) >= _MOST_UNKNOWN:
                return not self._failures
            first = self._unknown[key_id] = time.monotonic()
        return first < self._answered_at

    def _follow(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            self._ask()
            # However many wake us, the issuer is asked no sooner.
            self._stop.wait(self._between_s)
            self._wake.wait(max(self._rest_s() - self._between_s, 0.0))

    def _rest_s(self) -> float:
        if not self._failures:
            return self._fresh_s
        return min(self._between_s * 2.0 ** min(self._failures - 1, 10), _LONGEST_PAUSE_S)

    def _ask(self) -> None:
        began = time.monotonic()
        try:
            url = self._url or self._discover()
            document = self._fetch(url)
            keys = parse_keys(document)
        except Exception as error:  # noqa: BLE001 - a network fails in any way, and never us
            self._failures += 1
            _log.warning(
                "the OIDC issuer %s did not give its keys (%s: %.200s); %s",
                self._issuer,
                type(error).__name__,
                error,
                "those known go on" if self._keys else "its tokens cannot be verified yet",
            )
            return
        self._failures = 0
        now = time.time()
        self._remember(document, now)
        self._keys, self._fetched_at, self._answered_at = keys, now, began
        if len(self._unknown) >= _MOST_UNKNOWN:
            self._unknown = {}

    def _discover(self) -> str:
        document = msgspec.json.decode(self._fetch(self._issuer.rstrip("/") + _DISCOVERY))
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise Invalid("bad_issuer", "its discovery document is another issuer's")
        url = document.get("jwks_uri")
        if not isinstance(url, str):
            raise Invalid("bad_issuer", "its discovery document names no keys")
        return check_url(url, "jwks_uri")

    def _recall(self) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError, msgspec.MsgspecError, ModelyardError):
            kept = msgspec.json.decode(self._file.read_bytes(), type=_Kept)
            if kept.issuer == self._issuer and kept.fetched_at <= time.time():
                self._keys, self._fetched_at = parse_keys(bytes(kept.document)), kept.fetched_at

    def _remember(self, document: bytes, now: float) -> None:
        if self._file is None:
            return
        kept = _Kept(self._issuer, now, msgspec.Raw(document))
        draft = self._file.with_name(f".{self._file.name}-{os.getpid()}")
        try:
            draft.write_bytes(msgspec.json.encode(kept))
            draft.replace(self._file)
        except OSError as error:
            _log.warning("the OIDC issuer's keys could not be written down: %s", error)


def parse_keys(document: bytes) -> tuple[VerifyingKey, ...]:
    """The keys of a JWK set that we verify with; others, and broken ones, are left out.

    Raises `Invalid` for what is no such set.
    """
    if len(document) > _MOST_BYTES:
        raise Invalid("bad_keys", "the set of keys is too large")
    try:
        listed = msgspec.json.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("bad_keys", f"this is no set of keys: {error!s:.100}") from None
    members = listed.get("keys") if isinstance(listed, dict) else None
    if not isinstance(members, list) or len(members) > _MOST_KEYS:
        raise Invalid("bad_keys", "this is no set of keys")
    found = [key for each in members if (key := _parse_key(each)) is not None]
    return tuple(found)


def _parse_key(member: object) -> VerifyingKey | None:
    if not isinstance(member, dict) or member.get("use", "sig") != "sig":
        return None
    operations = member.get("key_ops")
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        return None
    kind = (member.get("kty"), member.get("crv", "") if member.get("kty") != "RSA" else "")
    named, key_id = member.get("alg"), member.get("kid", "")
    if not isinstance(named, str | None) or not isinstance(key_id, str):
        return None
    algorithms = frozenset(
        name
        for name, wanted in ALGORITHMS.items()
        if wanted == kind and (named is None or named == name or _same(named, name))
    )
    if not algorithms:
        return None
    key = _import_key(member)
    return None if key is None else VerifyingKey(key_id, algorithms, key)


def _same(named: str, name: str) -> bool:
    """`EdDSA` on Ed25519 and `Ed25519` are two names of one thing."""
    return {named, name} == {"EdDSA", "Ed25519"}


def _import_key(member: dict[str, Any]) -> Any:
    try:
        from joserfc.errors import JoseError
        from joserfc.jwk import import_key
    except ImportError:
        raise MissingExtra("oidc", "verifying an issuer's tokens") from None
    # Whatever else it says, no certificate of its own, and nothing private.
    public: dict[str, Any] = {
        name: member[name] for name in ("kty", "crv", "n", "e", "x", "y") if name in member
    }
    try:
        if public["kty"] == "RSA" and len(public["n"]) < _LEAST_RSA_DIGITS:
            return None
        return import_key(public)
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def check_url(url: str, field: str) -> str:
    """The address itself, if what comes from it can be trusted: https, or this machine's own."""
    parts = urlsplit(url)
    is_plain = not parts.username and not parts.password and not parts.fragment
    is_safe = parts.scheme == "https" or (
        parts.scheme == "http" and _is_loopback(parts.hostname or "")
    )
    if not (parts.hostname and is_plain and is_safe):
        raise Invalid(
            "bad_issuer_url",
            f"'{field}' is no https address: '{url:.200}'; keys that come by anything else may be "
            "anybody's",
            field=field,
        )
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def fetch_document(url: str) -> bytes:
    """A document from the network: no redirects, a bound on its size, and little patience."""
    import httpx

    found = bytearray()
    # One deadline for all of it: a server that drips keeps nobody.
    deadline = time.monotonic() + _TIMEOUT_S
    with httpx.stream("GET", url, timeout=_TIMEOUT_S, follow_redirects=False) as answer:
        if answer.status_code != 200:
            raise Invalid("bad_issuer", f"{url} answers {answer.status_code}")
        for piece in answer.iter_bytes():
            found += piece
            if len(found) > _MOST_BYTES:
                raise Invalid("bad_issuer", f"{url} answers with more than {_MOST_BYTES} bytes")
            if time.monotonic() > deadline:
                raise Invalid("bad_issuer", f"{url} takes longer than {_TIMEOUT_S:g} s")
    return bytes(found)


def _unverified() -> Unavailable:
    return Unavailable(
        "token_unverified",
        "this token cannot be verified at the moment: its issuer is being asked for its keys; "
        "try again in a moment",
        retry_after_s=1.0,
    )
