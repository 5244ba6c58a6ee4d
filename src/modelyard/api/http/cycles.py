"""One request on one connection, from its head to its last byte: inference, health, or refused."""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from modelyard.api.http.contracts import LIVE
from modelyard.api.http.doors import Door
from modelyard.api.http.encoding import decompress
from modelyard.api.http.oip import OipCodec
from modelyard.api.http.preferences import Preferences, schedule_of
from modelyard.api.http.surroundings import undisturbed
from modelyard.api.http.wire import Answer, Codec, Question
from modelyard.core.call import Call
from modelyard.core.errors import Internal, ModelyardError, Unavailable
from modelyard.core.outputs import is_larger
from modelyard.core.ports import Headers, Permit, Served

if TYPE_CHECKING:
    from modelyard.api.http.protocol import InferenceProtocol

_log = logging.getLogger(__name__)

_LARGE_BODY: Final = 256 * 1024
"""From how many bytes on a body is read in a thread: it may take longer than the loop may wait."""
_MANY_ELEMENTS: Final = 32 * 1024
"""From how many elements on an answer is written there: up to twenty milliseconds as JSON lines."""
_LARGE_ANSWER: Final = 8 * 1024
"""From how many bytes on an answer is packed there: some 300 microseconds with gzip."""


class _NoEvent(asyncio.Event):
    """Stands where uvicorn keeps the event that wakes an application: here nobody waits."""

    def set(self) -> None:
        """Wake nobody."""


_NO_EVENT: Final = _NoEvent()
_NO_DOOR: Final = Door("health", OipCodec, "")


class InferenceCycle(RequestResponseCycle):
    """One inference request on one connection, from its head to its last byte.

    To uvicorn's protocol it is a request in progress like any other, so that pipelining, shutdown
    and lost connections are the base class's business for both kinds. Its state is its own: the
    base's constructor, made for ASGI, is not called. What most requests never change stands here
    once, and not in each of them.
    """

    content: bytes | bytearray = b""
    more_body = True
    expects_100_continue = False
    disconnected = False
    response_complete = False
    call: Call | None = None
    question: Question | None = None
    permit: Permit | None = None
    entered_s = 0.0
    model = ""
    message_event = _NO_EVENT

    def __init__(
        self,
        protocol: "InferenceProtocol",
        door: Door,
        headers: Headers,
        preferences: Preferences | None = None,
        *,
        keep_alive: bool,
    ) -> None:
        self.protocol = protocol
        self.door = door
        self.headers = headers
        self.preferences = preferences
        self.keep_alive = keep_alive

    def enter(self) -> None:
        """Ask who calls, and for leave to call the model; raises what the caller is told.

        Asked with every request, and again when its body has come later than its head: a key may
        have been revoked meanwhile.
        """
        protocol = self.protocol
        around = protocol.surroundings
        caller = around.access.identify(self.headers, protocol.peer)
        model = self.door.model
        if model is None:
            model = around.contracts.choose(around.exchange, self.headers, caller.principal)
        self.model = model
        self.permit = caller.permit(model)
        self.entered_s = protocol.idle_since

    def run(self) -> None:
        """Decode the whole request and bring it to the exchange."""
        protocol, preferences = self.protocol, self.preferences
        try:
            if self.permit is None or self.entered_s != protocol.idle_since:
                self.enter()
            if preferences is not None and preferences.refusal is not None:
                self.refuse(preferences.refusal)
                return
            served = protocol.surroundings.exchange.find(
                self.model, self.door.version, self.headers
            )
            codec = self.door.bind(served)
            body = self.content
            if b"content-encoding" not in self.headers and len(body) < _LARGE_BODY:
                self._submit(served, codec.read(self.headers, bytes(body)))
            else:
                reading = protocol.surroundings.reader.submit(undisturbed, self._read, codec)
                asyncio.wrap_future(reading, loop=protocol.loop).add_done_callback(
                    lambda done: self._take(served, done)
                )
        except ModelyardError as error:
            self.refuse(error)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer
            self.break_off()

    def _read(self, codec: Codec) -> Question:
        body = self.content
        encoding = self.headers.get(b"content-encoding")
        if encoding is not None:
            body = decompress(body, encoding, self.protocol.surroundings.max_body_bytes)
        return codec.read(self.headers, bytes(body))

    def _take(self, served: Served, reading: "asyncio.Future[Question]") -> None:
        """Go on with what was read in the reader's thread, unless the caller has gone."""
        if reading.cancelled():
            return
        # Looked at in any case: an error that nobody looks at is a line in the log.
        reading.exception()
        if self.disconnected or self.response_complete:
            return
        try:
            if not self.protocol.surroundings.exchange.serves(served):
                # A swap came between: the new version may take other inputs.
                self.run()
                return
            self._submit(served, reading.result())
        except ModelyardError as error:
            self.refuse(error)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer
            self.break_off()

    def _submit(self, served: Served, question: Question) -> None:
        self.content = b""
        self.question = question
        if question.schedule is None and self.preferences is None:
            call = Call(served, question.inputs, question.rows, self.reply)
        else:
            asked = schedule_of(self.preferences, question.schedule)
            call = Call(
                served,
                question.inputs,
                question.rows,
                self.reply,
                asked.deadline_ns,
                asked.priority,
                asked.parameters,
            )
        call.permit = self.permit
        self.call = call
        self.protocol.surroundings.exchange.submit(call)

    def reply(self, call: Call) -> None:
        """The call has ended: write its answer, unless nobody is there to read it."""
        # The call holds this method: letting go of it here spares the garbage collector.
        self.call = None
        question, self.question = self.question, None
        if self.disconnected or self.response_complete or question is None:
            return
        if call.error is not None:
            self.refuse(call.error)
            return
        if call.outputs is not None and is_larger(call.outputs, _MANY_ELEMENTS):
            writing = self.protocol.surroundings.reader.submit(
                undisturbed, _written, question, call
            )
            waiting = asyncio.wrap_future(writing, loop=self.protocol.loop)
            waiting.add_done_callback(self._send_written)
        else:
            answer = _written(question, call)
            if self.preferences is None and type(answer) is Answer:
                self.protocol.write_answer(self, answer)
            else:
                self._send(answer)

    def _send_written(self, writing: "asyncio.Future[Answer | ModelyardError]") -> None:
        """Send what was written in the reader's thread, unless the caller has gone."""
        if not writing.cancelled() and not self.disconnected and not self.response_complete:
            self._send(writing.result())

    def _send(self, answer: Answer | ModelyardError) -> None:
        if isinstance(answer, ModelyardError):
            self.refuse(answer)
        elif self.preferences is None:
            self.protocol.write_answer(self, answer)
        else:
            self._write_as_preferred(self.preferences, answer)

    def _write_as_preferred(self, preferences: Preferences, answer: Answer) -> None:
        answer = preferences.echoing(answer)
        if not preferences.packs(answer):
            self.protocol.write_answer(self, answer)
        elif len(answer.body) < _LARGE_ANSWER:
            self.protocol.write_answer(self, preferences.packed(answer))
        else:
            packing = self.protocol.surroundings.reader.submit(preferences.packed, answer)
            waiting = asyncio.wrap_future(packing, loop=self.protocol.loop)
            waiting.add_done_callback(self._write_packed)

    def _write_packed(self, packing: "asyncio.Future[Answer]") -> None:
        """Write what was packed in the reader's thread, unless the caller has gone."""
        if not packing.cancelled() and not self.disconnected and not self.response_complete:
            self.protocol.write_answer(self, packing.result())

    def break_off(self) -> None:
        """Say that it failed, and write into the log why; while an exception is handled."""
        _log.exception("a request to %s failed before it was submitted", self.model or "a model")
        self.refuse(Internal("internal", "the server failed on this request; see its log"))

    def refuse(self, error: ModelyardError) -> None:
        """Write an error and end the request."""
        self.content = b""
        if not self.disconnected and not self.response_complete:
            self.protocol.write_error(self, error)


def _written(question: Question, call: Call) -> Answer | ModelyardError:
    try:
        return question.write(call)
    except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer
        _log.exception("the answer of call %s could not be written", call.id)
        return Internal("unwritable", f"the answer cannot be written; see the log for {call.id}")


class HealthCycle(InferenceCycle):
    """A health question: answered on the spot, whatever the models and the application do."""

    def __init__(self, protocol: "InferenceProtocol", path: bytes, *, keep_alive: bool) -> None:
        super().__init__(protocol, _NO_DOOR, {}, keep_alive=keep_alive)
        self.path = path

    def enter(self) -> None:
        """Health is public."""

    def run(self) -> None:
        """Answer yes or no."""
        if self.path == LIVE:
            self.protocol.write_answer(self, Answer(b'{"live":true}'))
        elif self.protocol.surroundings.exchange.is_ready():
            self.protocol.write_answer(self, Answer(b'{"ready":true}'))
        else:
            self.refuse(Unavailable("not_ready", "not every deployed model answers; see the index"))


class RefusalCycle(InferenceCycle):
    """What cannot be read as a request: refused when its turn comes, and nothing comes after."""

    def __init__(self, protocol: "InferenceProtocol", error: ModelyardError) -> None:
        super().__init__(protocol, _NO_DOOR, {}, keep_alive=False)
        self.more_body = False
        self.error = error

    def enter(self) -> None:
        """What is no request has no caller."""

    def run(self) -> None:
        """Say what is wrong."""
        self.refuse(self.error)
