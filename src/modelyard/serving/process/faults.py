"""Errors that cross a process border: told as data, raised again as what they were."""

import msgspec

from modelyard.core.errors import Kind, ModelyardError, make_error


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """A `ModelyardError` as data."""

    kind: Kind
    code: str
    message: str
    field: str | None = None
    retry_after_s: float | None = None


def to_fault(error: BaseException) -> Fault:
    """The error as data; what is none of ours keeps its type and text, for reasons and logs."""
    if isinstance(error, ModelyardError):
        return Fault(error.kind, error.code, error.message, error.field, error.retry_after_s)
    return Fault(Kind.INTERNAL, "load_failed", f"{type(error).__name__}: {error}"[:500])


def to_error(fault: Fault) -> ModelyardError:
    """The error that a fault tells of: its kind, code, message and field."""
    error = make_error(fault.kind, fault.code, fault.message, field=fault.field)
    error.retry_after_s = fault.retry_after_s
    return error
