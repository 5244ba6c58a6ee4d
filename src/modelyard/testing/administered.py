"""A registry administered over the network: a real HTTP server in a thread, on a free port."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from modelyard import __version__
from modelyard.api.http.server import HttpServer
from modelyard.core.administration.port import Reception
from modelyard.core.identity import Peer
from modelyard.core.ports import Access, Caller, Headers
from modelyard.gateway.access import KeyedAccess
from modelyard.gateway.open_access import OpenAccess
from modelyard.registry.registry import Registry
from modelyard.serving.exchange import LocalExchange

_PATIENCE_S = 30.0


class CurrentAccess:
    """Keyed access that looks at the rules with every request: what changes is in force at once."""

    is_open = False

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._keyed = KeyedAccess()
        self._sequence: int | None = None

    def identify(self, headers: Headers, peer: Peer) -> Caller:
        """Who asks, by the rules as they are now."""
        rules = self._registry.rules(self._sequence)
        if rules is not None:
            self._sequence = rules.sequence
            self._keyed.replace(rules)
            self._keyed.mark_current(True)
        return self._keyed.identify(headers, peer)


@dataclass(frozen=True, slots=True)
class Administered:
    """A running server."""

    url: str


@contextlib.contextmanager
def administered(
    registry: Registry, reception: Reception, *, is_open: bool = False, access: Access | None = None
) -> Iterator[Administered]:
    """Serve an administration until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="test server", daemon=True)
    thread.start()

    def run(coroutine: object) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(_PATIENCE_S)  # type: ignore[arg-type]

    known = access or CurrentAccess(registry)
    server = HttpServer(
        LocalExchange(),
        access=OpenAccess(known) if is_open else known,
        host="127.0.0.1",
        port=0,
        max_body_bytes=1024 * 1024,
        version=__version__,
        administration=reception,
    )
    try:
        yield Administered(f"http://127.0.0.1:{run(server.start())}")
    finally:
        run(server.stop(_PATIENCE_S))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_PATIENCE_S)
        loop.close()
