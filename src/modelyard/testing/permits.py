"""A permit for tests of what comes after the gate."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlainPermit:
    """Leave to call, that no gate gave."""

    tenant: str = "default"
    key: str = ""
