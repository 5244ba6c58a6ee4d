"""What a request's parameters ask of its call, in the same way for every protocol.

Source: Triton's schedule policy extension: `priority` 0 is the default, 1 the highest, larger
numbers lower; `timeout` is in microseconds. Parameters of other names are the model's business and
are handed on.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelyard.core.errors import Invalid

HIGH: Final = 1
NORMAL: Final = 0
LOW: Final = -1
_CLASSES: Final = {0: NORMAL, 1: HIGH, 2: NORMAL}
_SEQUENCES: Final = ("sequence_id", "sequence_start", "sequence_end")
_WRITING: Final = frozenset({"binary_data_output", "binary_data", "binary_data_size"})
"""Parameters that say how tensors travel: a protocol reads them itself."""
_LONGEST_NS: Final = 10**18
_DEEPEST: Final = 32
_LEAST: Final = -(2**63)
_MOST: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a call is to be run: by when, before whom, and the parameters left for the model."""

    deadline_ns: int | None = None
    priority: int = NORMAL
    parameters: Mapping[str, Any] | None = None


def read_schedule(parameters: Mapping[str, Any] | None) -> Schedule | None:
    """The schedule that a request's parameters ask for, None where they ask for none.

    Raises `Invalid` naming the parameter.
    """
    if not parameters or parameters.keys() <= _WRITING:
        return None
    for name in _SEQUENCES:
        if parameters.get(name):
            raise Invalid(
                "unsupported",
                f"'{name}' is not supported: no model here keeps state between requests",
                field=name,
            )
    timeout_us = _whole(parameters, "timeout")
    priority = _whole(parameters, "priority")
    others = {
        name: value
        for name, value in parameters.items()
        if name not in _WRITING and name not in _SEQUENCES and name not in ("timeout", "priority")
    }
    for name, value in others.items():
        if not _is_plain(value):
            raise Invalid(
                "bad_parameter",
                f"parameter '{name:.80}' is nested too deeply, or holds a number of more than 64 "
                "bits",
                field=name,
            )
    return Schedule(
        deadline_after(timeout_us * 1000) if timeout_us else None,
        _CLASSES.get(priority, LOW),
        others or None,
    )


def deadline_after(wait_ns: int) -> int:
    """The `time.monotonic_ns` moment after so many nanoseconds."""
    return time.monotonic_ns() + min(wait_ns, _LONGEST_NS)


def _is_plain(value: object, deepest: int = _DEEPEST) -> bool:
    """Whether a parameter can be handed on to another process as it is."""
    if isinstance(value, int):
        return _LEAST <= value <= _MOST
    if isinstance(value, list | dict):
        each = value.values() if isinstance(value, dict) else value
        return deepest > 0 and all(_is_plain(inner, deepest - 1) for inner in each)
    return True


def _whole(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or value < 0:
        raise Invalid("bad_parameter", f"parameter '{name}' is a whole number from 0", field=name)
    return value
