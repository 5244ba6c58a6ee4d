"""The one error tree. Protocols map `kind` to their own statuses; nobody raises a status."""

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final

from modelyard.core.masking import mask

if TYPE_CHECKING:
    from modelyard.core.limits import Headroom


class Kind(StrEnum):
    """Whose fault it is and whether trying again helps; each protocol maps all of them."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    DENIED = "denied"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    EXHAUSTED = "exhausted"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


class ModelyardError(Exception):
    """Base of every error that Modelyard raises on purpose.

    `code` is stable and meant for programs, `message` says what happened and what to do,
    `field` names the input at fault where there is one, `retry_after_s` after how many seconds the
    same may work.
    """

    kind: ClassVar[Kind] = Kind.INTERNAL

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        # A caller who puts a key where a name belongs would see it in a log, and so would others.
        message = mask(message)
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = None if field is None else mask(field)
        self.retry_after_s = retry_after_s


class Invalid(ModelyardError):
    """The caller's input is wrong; the same input will never work."""

    kind = Kind.INVALID


class Unauthenticated(ModelyardError):
    """Nobody knows who is calling."""

    kind = Kind.UNAUTHENTICATED


class Denied(ModelyardError):
    """We know who is calling, and they may not."""

    kind = Kind.DENIED


class NotFound(ModelyardError):
    """The thing named does not exist here."""

    kind = Kind.NOT_FOUND


class Conflict(ModelyardError):
    """The state of things forbids it: it exists already, or somebody changed it meanwhile."""

    kind = Kind.CONFLICT


class ApprovalNeeded(Conflict):
    """A second person must approve the change, which is written down as request `approval`.

    The one error that leaves something behind: the request.
    """

    def __init__(self, code: str, message: str, *, approval: int) -> None:
        super().__init__(code, message, field="approval")
        self.approval = approval


class Exhausted(ModelyardError):
    """A bound was reached (queue, rate, quota, size); later it may work.

    `headroom` is how the limit stands, where it is one of a caller's own.
    """

    kind = Kind.EXHAUSTED
    headroom: "Headroom | None" = None


class Unavailable(ModelyardError):
    """Something needed is missing or down: an extra, a model still loading, a closed endpoint."""

    kind = Kind.UNAVAILABLE


class TimedOut(ModelyardError):
    """The call's own deadline passed before it was answered."""

    kind = Kind.TIMEOUT


class Cancelled(ModelyardError):
    """The caller went away or cancelled."""

    kind = Kind.CANCELLED


class Internal(ModelyardError):
    """Our fault. The message names nothing but a request id; the log has the rest."""

    kind = Kind.INTERNAL


class MissingExtra(Unavailable):
    """An optional dependency is not installed; the message is the exact pip command."""

    def __init__(self, extra: str, needed_for: str) -> None:
        super().__init__(
            "missing_extra",
            f"{needed_for} needs an optional part: pip install 'modelyard[{extra}]'",
        )
        self.extra = extra


class DamagedBundle(Invalid):
    """A byte of a bundle is not what its digest says. `field` is the path inside the bundle."""


class UntrustedFormat(Denied):
    """The file can run code when it is opened, and the operator's policy does not allow that."""


_BY_KIND: Final = {each.kind: each for each in ModelyardError.__subclasses__()}


def make_error(kind: Kind, code: str, message: str, *, field: str | None = None) -> ModelyardError:
    """The error that another process raised, as its kind, code and words say it."""
    return _BY_KIND[kind](code, message, field=field)
