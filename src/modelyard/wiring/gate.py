"""A server's gate: who is calling, within what limits, and what it is metered as."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelyard.core.config import Config

if TYPE_CHECKING:
    from modelyard.core.ports import Access, Gate
    from modelyard.registry.registry import Registry


@dataclass(frozen=True, slots=True)
class Entrance:
    """What protocols ask and what endpoints ask."""

    access: "Access"
    gate: "Gate"


def open_entrance() -> Entrance:
    """Lets everybody in; for a server on loopback that was told to be open."""
    from modelyard.gateway.open_access import OpenAccess
    from modelyard.gateway.open_gate import OpenGate

    return Entrance(OpenAccess(), OpenGate())


def make_entrance(config: Config, registry: "Registry") -> Entrance:
    """The entrance that a configuration asks for."""
    return open_entrance()
