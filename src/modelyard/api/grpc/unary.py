"""RPCs of one message each way: most of them a function from the one to the other."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from modelyard.api.asks import Asks
from modelyard.api.grpc.rpc import Rpc, Stream, as_ours
from modelyard.core.errors import Invalid
from modelyard.core.identity import Verb

_M = TypeVar("_M", bound=Message)


def parse(request: type[_M], message: bytes) -> _M:
    """A message's bytes as a message; raises `Invalid` where they are none."""
    try:
        return request.FromString(message)
    except DecodeError:
        raise Invalid(
            "bad_message", f"the message is not a {request.DESCRIPTOR.full_name}"
        ) from None


class Unary(Rpc):
    """An RPC that is asked once. A method overrides `answer`."""

    __slots__ = ("_message",)

    def __init__(self, stream: Stream, stream_id: int, metadata: Mapping[bytes, bytes]) -> None:
        super().__init__(stream, stream_id, metadata)
        self._message: bytes | None = None

    def receive(self, message: bytes) -> None:
        """Keep the message until it is certain that it is the only one."""
        if self._message is not None:
            raise Invalid("bad_message", "this method takes one message; more were sent")
        self._message = message

    @property
    def held_bytes(self) -> int:
        """A whole message too, while it is not certain that it is the only one."""
        return super().held_bytes + len(self._message or b"")

    def finish_reading(self) -> None:
        """Answer."""
        message, self._message = self._message, None
        if message is None:
            raise Invalid("bad_message", "this method takes one message; none was sent")
        self.answer(message)

    def answer(self, message: bytes) -> None:
        """Reply to the message, now or later."""
        raise NotImplementedError


class Function(Unary):
    """An RPC whose answer is a function of its request and its caller, awaited where it waits.

    `names` is the request's field that names a model, "" where none does.
    """

    __slots__ = ("_answer", "_asks", "_names", "_request", "_task")

    def __init__(
        self,
        asks: Asks,
        names: str,
        request: type[Message],
        answer: Callable[..., Message | Awaitable[Message]],
        stream: Stream,
        stream_id: int,
        metadata: Mapping[bytes, bytes],
    ) -> None:
        super().__init__(stream, stream_id, metadata)
        self._asks = asks
        self._names = names
        self._request = request
        self._answer = answer
        self._task: asyncio.Task[None] | None = None

    def answer(self, message: bytes) -> None:
        """Call the function."""
        request = parse(self._request, message)
        if isinstance(self._asks, Verb):
            # Anew: its message may come long after its metadata.
            self.caller = self.identify()
            model = getattr(request, self._names) if self._names else ""
            self.caller.check(self._asks, model or None)
        answer = self._answer(request, self)
        if isinstance(answer, Message):
            self.reply(answer.SerializeToString())
        else:
            self._task = asyncio.get_running_loop().create_task(self._await(answer))

    async def _await(self, answer: Awaitable[Message]) -> None:
        try:
            self.reply((await answer).SerializeToString())
        except Exception as error:  # noqa: BLE001 - the caller must hear of every failure
            self.fail(as_ours(error))

    def abandon(self, *, is_lost: bool) -> None:
        """Nobody waits for it any more."""
        if self._task is not None:
            self._task.cancel()
