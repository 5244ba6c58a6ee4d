"""The front of a model process: the workers' calls come in by a socket and go to one scheduler."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from modelyard.core.call import Call, Outcome
from modelyard.core.errors import Invalid, ModelyardError
from modelyard.core.ports import Served
from modelyard.serving.backend import Backend
from modelyard.serving.process.faults import to_fault
from modelyard.serving.process.link import welcome
from modelyard.serving.process.messages import (
    PROTOCOL,
    Answers,
    Asked,
    Ended,
    Run,
    Welcome,
    decode_question,
    encode,
)
from modelyard.serving.process.notes import Notes
from modelyard.serving.process.ring import BrokenRing

_log = logging.getLogger(__name__)

_TELL_S: Final = 0.002
"""How long a batch runs before its workers hear of it."""


class Front:
    """Takes connections and calls until it is told to stop. Used on the event loop's thread."""

    def __init__(self, served: Served, backend: Backend, notes: Notes) -> None:
        self.served = served
        self.backend = backend
        self.notes = notes
        notes.on_begun = self._tell_begun
        self._loop = asyncio.get_running_loop()
        self._sessions: set[_Session] = set()
        self._open_calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def listen(self, listener: socket.socket) -> None:
        """Take connections from a listening socket."""
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept, listener)

    async def drain(self, listener: socket.socket) -> None:
        """Take no more connections; return when no call is open."""
        self._loop.remove_reader(listener)
        await self._idle.wait()

    def count(self, change: int) -> None:
        """Note that so many more calls are open."""
        self._open_calls += change
        if self._open_calls:
            self._idle.clear()
        else:
            self._idle.set()

    def _tell_begun(self, calls: Sequence[Call]) -> None:
        """Have the workers hear which of their calls run."""
        for call in calls:
            if isinstance(call, _AskedCall):
                call.session.begin(call.asked)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        self._loop.add_reader(sock, self._greet, sock)

    def _greet(self, sock: socket.socket) -> None:
        self._loop.remove_reader(sock)
        try:
            _Session(self, self._loop, sock, self._sessions)
        except (OSError, BrokenRing) as error:
            _log.warning("a connection was refused: %s", error)
            sock.close()


class _AskedCall(Call):
    """A call of a worker, by whose session it came and the number it has there."""

    __slots__ = ("asked", "session")

    session: "_Session"
    asked: int


class _Session:
    """One worker's connection, and the calls it waits for."""

    def __init__(
        self,
        front: Front,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        sessions: "set[_Session]",
    ) -> None:
        self._front = front
        self._loop = loop
        self._sessions = sessions
        self._calls: dict[int, Call] = {}
        self._ended: list[Ended] = []
        self._begun: list[int] = []
        self._flush_is_due = self._telling_is_due = False
        self._link = welcome(loop, sock, self._take, self._lost)
        sessions.add(self)
        self._link.send(encode(Welcome(PROTOCOL, os.getpid())))

    def _take(self, frame: bytes) -> None:
        try:
            question = decode_question(frame)
            if isinstance(question, Run):
                for asked in question.calls:
                    self._run(asked)
            else:
                for number in question.numbers:
                    call = self._calls.get(number)
                    if call is not None:
                        call.cancel()
        except (BrokenRing, msgspec.MsgspecError):
            _log.exception("a worker's message")
            self._link.lose()

    def _run(self, asked: Asked) -> None:
        front = self._front
        try:
            signature = front.served.signature
            if len(asked.inputs) != len(signature.inputs):
                raise Invalid("bad_call", "the call has other inputs than the model")
            inputs = {
                spec.name: self._link.unpack(spec, tensor)
                for spec, tensor in zip(signature.inputs, asked.inputs, strict=True)
            }
            rows = signature.check(inputs)
            call = _AskedCall(
                front.served,
                inputs,
                rows,
                self._answerer(asked.number),
                asked.deadline_ns,
                asked.priority,
                asked.parameters,
            )
            call.started_ns = asked.started_ns
            call.session, call.asked = self, asked.number
            front.backend.check_room(call)
        except ModelyardError as error:
            self._end(Ended(asked.number, [], to_fault(error)))
            return
        call.settle = self._settle
        self._calls[asked.number] = call
        front.count(1)
        front.backend.enqueue(call)

    def _settle(self, call: Call) -> None:
        self._front.count(-1)
        if call.outcome is not Outcome.OK:
            self._front.backend.forget(call)

    def _answerer(self, number: int) -> Callable[[Call], None]:
        def answer(call: Call) -> None:
            self._calls.pop(number, None)
            if call.outcome is Outcome.CANCELLED:
                return
            try:
                self._end(self._told(number, call))
            except BrokenRing:
                _log.exception("a worker's shared memory")
                self._link.lose()

        return answer

    def _told(self, number: int, call: Call) -> Ended:
        if call.error is not None or call.outputs is None:
            assert call.error is not None  # noqa: S101 - a call ends with outputs or an error
            return Ended(number, [], to_fault(call.error))
        outputs = call.outputs
        return Ended(
            number,
            [self._link.pack(outputs[spec.name]) for spec in self._front.served.signature.outputs],
        )

    def begin(self, number: int) -> None:
        """One of its calls runs from now on."""
        self._begun.append(number)
        if not self._telling_is_due:
            self._telling_is_due = True
            # Most have ended by then, and nothing more is to be said of them.
            self._loop.call_later(_TELL_S, self._tell_begun)

    def _tell_begun(self) -> None:
        self._telling_is_due = False
        if any(number in self._calls for number in self._begun):
            self._plan_flush()

    def _end(self, ended: Ended) -> None:
        self._ended.append(ended)
        self._plan_flush()

    def _plan_flush(self) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        ended, self._ended = self._ended, []
        # Of one that has ended already, its end is enough.
        begun = [number for number in self._begun if number in self._calls]
        self._begun.clear()
        load = self._front.backend.load()
        self._link.send(
            encode(
                Answers(
                    ended,
                    begun,
                    *self._front.notes.take(),
                    load.queued_rows,
                    load.fixed_us,
                    load.row_us,
                )
            )
        )

    def _lost(self) -> None:
        """The worker has gone: nobody waits for its calls."""
        self._sessions.discard(self)
        self._link.close()
        for call in list(self._calls.values()):
            call.cancel()
