"""Where a running server listens."""

from dataclasses import dataclass
from enum import IntEnum


class Door(IntEnum):
    """A server's listening sockets, as supervisor and workers number them."""

    HTTP = 0
    GRPC = 1


@dataclass(frozen=True, slots=True)
class Addresses:
    """Its host and ports, and whether it speaks TLS there."""

    host: str
    port: int
    grpc_port: int
    is_tls: bool = False

    @property
    def url(self) -> str:
        """The HTTP base URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}"
