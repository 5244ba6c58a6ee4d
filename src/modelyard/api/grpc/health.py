"""gRPC's health checking protocol, for the server, its service and every model by name."""

import asyncio
from collections.abc import Mapping
from typing import Final

from modelyard.api.grpc.messages import HEALTH, SERVICE, HealthCheckRequest, HealthCheckResponse
from modelyard.api.grpc.rpc import Stream
from modelyard.api.grpc.unary import Unary, parse
from modelyard.core.errors import NotFound, Unavailable
from modelyard.core.ports import Exchange

_LOOK_S: Final = 0.2
"""How often a watched status is looked at: as often as the registry is."""
_SERVER: Final = ("", SERVICE, HEALTH)
_UNKNOWN: Final = HealthCheckResponse.SERVICE_UNKNOWN


def status_of(exchange: Exchange, service: str) -> HealthCheckResponse.ServingStatus:
    """Whether the server, one of its services, or the model of that name answers."""
    if service in _SERVER:
        is_serving = exchange.is_ready()
    else:
        try:
            exchange.find(service)
        except NotFound:
            return _UNKNOWN
        except Unavailable:
            is_serving = False
        else:
            is_serving = True
    return HealthCheckResponse.SERVING if is_serving else HealthCheckResponse.NOT_SERVING


class Health:
    """Answers `Check`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def check(self, request: HealthCheckRequest) -> HealthCheckResponse:
        """The status now; raises `NotFound` for what is not known here."""
        status = status_of(self._exchange, request.service)
        if status == _UNKNOWN:
            raise NotFound(
                "unknown_service", f"'{request.service:.140}' is neither a service nor a model here"
            )
        return HealthCheckResponse(status=status)


class HealthWatch(Unary):
    """Answers `Watch`: the status now, and again whenever it changes, until the caller leaves."""

    __slots__ = ("_exchange", "_last", "_service", "_timer")

    def __init__(
        self,
        exchange: Exchange,
        stream: Stream,
        stream_id: int,
        metadata: Mapping[bytes, bytes],
    ) -> None:
        super().__init__(stream, stream_id, metadata)
        self._exchange = exchange
        self._service = ""
        self._last: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def answer(self, message: bytes) -> None:
        """Begin to watch."""
        self._service = parse(HealthCheckRequest, message).service
        self._look()

    def _look(self) -> None:
        status = status_of(self._exchange, self._service)
        # A caller who does not read hears the newest status only.
        if status != self._last and not self.stream.unsent_bytes(self):
            self._last = status
            self.send(HealthCheckResponse(status=status).SerializeToString())
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def drain(self) -> None:
        """Say that the server no longer serves, then end."""
        if self._timer is not None:
            self._timer.cancel()
        self.send(HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING).SerializeToString())
        self.fail(Unavailable("stopping", "the server is stopping; watch another"))

    def abandon(self) -> None:
        """Nobody watches any more."""
        if self._timer is not None:
            self._timer.cancel()
