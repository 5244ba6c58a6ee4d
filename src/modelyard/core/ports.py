"""The ports: what one part of the house may ask of another, without knowing which part it is."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, Literal, Protocol

from modelyard.core.call import Call
from modelyard.core.datatypes import Array
from modelyard.core.identity import Actor, Peer, Principal, Verb
from modelyard.core.signature import Signature

Arrays = Mapping[str, Array]
Headers = Mapping[bytes, bytes]
"""A request's headers, or gRPC metadata, by lower-case name; of a repeated one the last."""
NO_HEADERS: Final[Headers] = {}


class Runtime(Protocol):
    """A loaded bundle that answers batches. May be called from several threads at once."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Named arrays in, named arrays out, every output of the signature, in its dtype.

        Inputs satisfy `signature.check` and may be read-only. Outputs are the caller's: fresh
        arrays, never a buffer that a later run writes into. May raise anything; the caller turns
        it into an error.
        """
        ...

    def close(self) -> None:
        """Free what it holds; calling it twice is harmless."""
        ...


class File(Protocol):
    """Bytes that can be read again and again: a `Path`, or what is decrypted as it is read."""

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """The bytes from their beginning; raises `FileNotFoundError`, and `DamagedBundle` where
        it can tell."""
        ...


class BlobStore(Protocol):
    """Bytes by their sha256 (lower-case hex, without prefix). Blobs are immutable.

    Used from many threads and processes at once. One registry owns a store: `collect` deletes
    whatever that registry does not refer to.
    """

    def put(self, source: File | bytes | BinaryIO) -> str:
        """Store a file's bytes, or bytes, durably before returning their sha256.

        Idempotent, and a damaged blob is replaced. Raises `Exhausted` when the disk is full.
        """
        ...

    def has(self, digest: str) -> bool:
        """Whether a blob is here."""
        ...

    def file(self, digest: str) -> File:
        """The blob's bytes, here on this machine; raises `NotFound`. Not verified."""
        ...

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not here is no error."""
        ...

    def digests(self) -> Iterator[str]:
        """Every blob here, in no order."""
        ...

    def hold(self) -> AbstractContextManager[None]:
        """While held, by any thread or process, nothing is collected.

        Hold it from the first `put` until what was put is referred to.
        """
        ...

    def leftovers(self) -> Sequence[str]:
        """Names of half-written files: a put that died, or one that is running now."""
        ...

    def collect(self, referenced: Callable[[], Set[str]]) -> Sequence[str]:
        """Delete leftovers and the blobs that are not referenced, and return their names.

        `referenced` is asked when nobody holds the store and nobody can begin to. Raises `Conflict`
        when the store stays held.
        """
        ...


class Permit(Protocol):
    """A caller's leave to call one model: what the gate knows of the two of them together."""

    @property
    def tenant(self) -> str:
        """For whom the call runs."""
        ...

    @property
    def key(self) -> str:
        """By which credential; no secret."""
        ...


class Caller(Protocol):
    """Somebody whom the gate knows. Short-lived: ask for it anew with each request."""

    @property
    def principal(self) -> Principal:
        """Who it is, and what it may."""
        ...

    def check(self, verb: Verb, model: str | None = None) -> None:
        """Raise `Denied` where it may not do this, or not to this model."""
        ...

    def permit(self, model: str) -> Permit:
        """Leave to call a model, for `Call.permit`; raises `Denied`, whether the model is there or
        not."""
        ...


class Access(Protocol):
    """Who is calling. Every protocol asks, with each request and before it reads its body."""

    @property
    def is_open(self) -> bool:
        """Whether callers without a key are let in."""
        ...

    def identify(self, headers: Headers, peer: Peer) -> Caller:
        """Who sends these headers over this connection; microseconds, no await.

        Raises `Unauthenticated`, `Exhausted` for a source that guesses too often, and `Unavailable`
        where nobody can say at the moment. Never says why a credential is not good.
        """
        ...


class Gate(Protocol):
    """Admit and settle: limits, metering and audit of calls live behind these."""

    def admit(self, call: Call, again: Callable[[Call], None]) -> bool:
        """Let the call in, or raise. Microseconds, no await.

        False where it must wait for an allowance: the gate keeps it, and later hands it to `again`,
        on the loop, or ends it. A call without a permit is refused, but by an open gate.
        """
        ...

    def settle(self, call: Call) -> None:
        """Record how an admitted call ended; called exactly once for each. Microseconds."""
        ...

    def refuse(self, call: Call) -> None:
        """Record a call that was refused and never admitted, by the gate itself or after it."""
        ...


class Served(Protocol):
    """A version being served, as protocols see it."""

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    @property
    def version(self) -> int:
        """The version's number."""
        ...

    @property
    def digest(self) -> str:
        """The bundle's digest, `sha256:…`."""
        ...

    @property
    def platform(self) -> str:
        """What runs it, as OIP metadata spells it: `onnxruntime_onnx`, `sklearn`, …."""
        ...

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    @property
    def sample(self) -> Arrays | None:
        """A few real input rows, for documents and examples; None where the bundle has none."""
        ...

    @property
    def cache(self) -> dict[str, Any]:
        """Room for what a protocol prepares once for this version; it ends with the version."""
        ...


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of the repository index: a version and whether it answers, and if not, why."""

    model: str
    version: int
    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """How often something was done, and the nanoseconds that it took in all."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedStatistics:
    """What a version has done since it was loaded, over every worker of the node.

    `batches` by rows; `success`, `fail` and `queue` count calls, `compute` batches, and `cache_hit`
    calls that the response cache answered. `rows` are those of calls that were answered.
    """

    model: str
    version: int
    rows: int = 0
    last_ms: int = 0
    success: Spent = Spent()
    fail: Spent = Spent()
    queue: Spent = Spent()
    compute: Spent = Spent()
    cache_hit: Spent = Spent()
    batches: Mapping[int, Spent] = field(default_factory=dict)


class Operations(Protocol):
    """What a protocol may ask of the whole node, beyond calls. May wait; used on the loop."""

    async def statistics(
        self, model: str | None = None, version: str | None = None
    ) -> Sequence[ServedStatistics]:
        """Of one version, or of all that are served; raises `NotFound`."""
        ...

    async def load(self, model: str, actor: Actor) -> None:
        """Deploy a model's newest accepted version, or load the routed one, and wait until it
        answers here; raises `NotFound`, `Unavailable` with the reason, or `Denied`."""
        ...

    async def unload(self, model: str, actor: Actor) -> None:
        """Take a model's route away and wait until it answers no more; raises as `load` does."""
        ...


class Exchange(Protocol):
    """Where every protocol brings its calls. Used on the event loop's thread only."""

    def find(self, model: str, version: str | None = None, headers: Headers = NO_HEADERS) -> Served:
        """The version that the route gives (or the number asked for); raises `NotFound`.

        `headers` may keep a caller on one of several versions, where the route says so.
        """
        ...

    def serves(self, served: Served) -> bool:
        """Whether calls to this version are still taken: it was not swapped for another."""
        ...

    def submit(self, call: Call) -> None:
        """Admit the call and run it; it ends through its own `reply`, always, and never raises."""
        ...

    def listings(self) -> Sequence[Listing]:
        """Every version that is routed on this node."""
        ...

    def is_ready(self) -> bool:
        """Whether this node serves what the registry asks of it."""
        ...
