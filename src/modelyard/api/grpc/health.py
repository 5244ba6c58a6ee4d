"""gRPC's health checking protocol, for the server, its service and every model by name."""

import asyncio
from collections.abc import Mapping
from typing import Final

from modelyard.api.grpc.messages import HEALTH, SERVICE, HealthCheckRequest, HealthCheckResponse
from modelyard.api.grpc.rpc import Rpc, Stream, as_ours
from modelyard.api.grpc.unary import Unary, parse
from modelyard.core.errors import NotFound, Unavailable
from modelyard.core.identity import Verb
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


def check_health(exchange: Exchange, request: HealthCheckRequest, rpc: Rpc) -> HealthCheckResponse:
    """Whether the server, its service or a model answers now."""
    ask_for_model(rpc, request.service)
    status = status_of(exchange, request.service)
    if status == _UNKNOWN:
        raise NotFound(
            "unknown_service", f"'{request.service:.140}' is neither a service nor a model here"
        )
    return HealthCheckResponse(status=status)


def ask_for_model(rpc: Rpc, service: str) -> None:
    """Anybody may ask how the server is, but of a model only who may call it."""
    if service not in _SERVER:
        rpc.identify().check(Verb.CALL, service)


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
        ask_for_model(self, self._service)
        status = status_of(self._exchange, self._service)
        # A caller who does not read hears the newest status only.
        if status != self._last and not self.stream.unsent_bytes(self):
            self._last = status
            self.send(HealthCheckResponse(status=status).SerializeToString())
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look_again)

    def _look_again(self) -> None:
        try:
            self._look()
        except Exception as error:  # noqa: BLE001 - the caller must hear of every failure
            self.fail(as_ours(error))

    def drain(self) -> None:
        """Say that the server no longer serves, then end."""
        if self._timer is not None:
            self._timer.cancel()
        self.send(HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING).SerializeToString())
        self.fail(Unavailable("stopping", "the server is stopping; watch another"))

    def abandon(self, *, is_lost: bool) -> None:
        """Nobody watches any more."""
        if self._timer is not None:
            self._timer.cancel()
