"""The two clients: the same steps, driven by blocking or by awaiting."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from modelyard.client.messages import Response
from modelyard.client.steps import Failure, Pause, Session, Steps
from modelyard.core.datatypes import Array

T = TypeVar("T")


class Client:
    """Calls a running server over HTTP. Safe to share between threads; close it when done.

    Every method raises an error of `modelyard.core.errors`: what the server said, `Unavailable`
    where nothing answers, `TimedOut` where the answer does not come within `timeout_s`. A call
    is sent again only if it cannot have run: no connection, or refused with 503 and a
    `Retry-After` of a few seconds.

    `key` is an API key, by default that in the environment variable `MODELYARD_KEY`. Of a server
    with certificates of one's own, `SSL_CERT_FILE` names who vouches for them.
    """

    def __init__(self, url: str, timeout_s: float = 30.0, key: str | None = None) -> None:
        # Here and not above: httpx would double the time that importing this module takes.
        from modelyard.client.transport import Server, Transport, key_of

        self._session = Session()
        self._transport = Transport(Server(url, timeout_s, key_of(key)))

    def predict(self, model: str, rows: object, version: int | None = None) -> Array:
        """The label or value of each row.

        `rows` is a DataFrame, a list of dicts, a dict (one row, or a list or array a column), a
        2-D array, or a list of lists; the last two only where all columns are one tensor of
        numbers. Text comes as an object array of `str`.
        """
        return self._drive(self._session.predict(model, rows, version))

    def predict_proba(self, model: str, rows: object, version: int | None = None) -> Array:
        """The probabilities, of shape [rows, classes], in the order of the metadata's columns."""
        return self._drive(self._session.predict_proba(model, rows, version))

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        outputs: Iterable[str] | None = None,
        version: int | None = None,
    ) -> dict[str, Array]:
        """Named arrays in, named arrays out: all outputs, or those named."""
        return self._drive(self._session.infer(model, inputs, outputs, version))

    def models(self) -> list[dict[str, Any]]:
        """Every version that the server should serve: name, version, state, reason."""
        return self._drive(self._session.models())

    def metadata(self, model: str, version: int | None = None) -> dict[str, Any]:
        """What a model takes and gives, as the server describes it now."""
        return self._drive(self._session.metadata(model, version))

    def is_live(self) -> bool:
        """Whether the server answers."""
        return self._drive(self._session.is_live())

    def is_ready(self, model: str | None = None) -> bool:
        """Whether the server, or one model on it, is ready to answer calls."""
        return self._drive(self._session.is_ready(model))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _drive(self, steps: Steps[T]) -> T:
        came: Response | Failure | None = None
        while True:
            try:
                step = steps.send(came)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                self._transport.pause(step.seconds)
                came = None
            else:
                came = self._transport.send(step)


class AsyncClient:
    """`Client` for asyncio: the same methods, awaited."""

    def __init__(self, url: str, timeout_s: float = 30.0, key: str | None = None) -> None:
        from modelyard.client.transport import AsyncTransport, Server, key_of

        self._session = Session()
        self._transport = AsyncTransport(Server(url, timeout_s, key_of(key)))

    async def predict(self, model: str, rows: object, version: int | None = None) -> Array:
        """The label or value of each row; see `Client.predict`."""
        return await self._drive(self._session.predict(model, rows, version))

    async def predict_proba(self, model: str, rows: object, version: int | None = None) -> Array:
        """The probabilities, of shape [rows, classes]."""
        return await self._drive(self._session.predict_proba(model, rows, version))

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        outputs: Iterable[str] | None = None,
        version: int | None = None,
    ) -> dict[str, Array]:
        """Named arrays in, named arrays out: all outputs, or those named."""
        return await self._drive(self._session.infer(model, inputs, outputs, version))

    async def models(self) -> list[dict[str, Any]]:
        """Every version that the server should serve: name, version, state, reason."""
        return await self._drive(self._session.models())

    async def metadata(self, model: str, version: int | None = None) -> dict[str, Any]:
        """What a model takes and gives, as the server describes it now."""
        return await self._drive(self._session.metadata(model, version))

    async def is_live(self) -> bool:
        """Whether the server answers."""
        return await self._drive(self._session.is_live())

    async def is_ready(self, model: str | None = None) -> bool:
        """Whether the server, or one model on it, is ready to answer calls."""
        return await self._drive(self._session.is_ready(model))

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _drive(self, steps: Steps[T]) -> T:
        came: Response | Failure | None = None
        while True:
            try:
                step = steps.send(came)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(step, Pause):
                await self._transport.pause(step.seconds)
                came = None
            else:
                came = await self._transport.send(step)
