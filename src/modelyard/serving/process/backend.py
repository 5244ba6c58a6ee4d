"""The backend of an endpoint whose model lives in another process."""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from modelyard.core.call import Call
from modelyard.core.errors import Exhausted, Internal, ModelyardError, Unavailable
from modelyard.core.signature import Signature
from modelyard.serving.process.faults import to_error
from modelyard.serving.process.link import Link, dial
from modelyard.serving.process.messages import (
    PROTOCOL,
    Answers,
    Asked,
    Ended,
    Forget,
    Run,
    decode_reply,
    encode,
)
from modelyard.serving.process.ring import BrokenRing
from modelyard.serving.queue import size_bytes
from modelyard.serving.report import Load
from modelyard.serving.statistics import Statistics

_log = logging.getLogger(__name__)

_RETRY_AFTER_S: Final = 1.0
_MOST_BYTES: Final = 512 * 1024 * 1024
_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 2.0
_HOLD_S: Final = 5.0
"""How long calls wait for a process that has died: starting it again takes a second or two."""


class RemoteBackend:
    """Hands calls to a model process and ends them with its answers.

    A call that the process held when it died fails with 503. Those that come after wait until the
    process is back; when it is not back soon, they and all others are refused with 503.
    Used on the event loop's thread only, but for `open`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        path: str,
        signature: Signature,
        most_rows: int,
        statistics: Statistics,
        leave: Callable[[], None],
        *,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self._loop = loop
        self._name = name
        self._path = path
        self._signature = signature
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._statistics = statistics
        self._leave = leave
        self._link: Link | None = None
        self._is_welcome = False
        self._is_closed = False
        self._was_welcome = threading.Event()
        self._held_until_s = 0.0
        self._wait_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._load = Load(place="process")
        self._calls: dict[int, Call] = {}
        self._rows = self._bytes = 0
        self._accepted: list[Call] = []
        self._forgotten: list[int] = []
        self._turn_is_due = False

    def open(self, timeout_s: float) -> None:
        """Connect; called from a loading thread, and waits until calls are taken.

        Raises `Unavailable` where the process does not answer in time.
        """
        self._loop.call_soon_threadsafe(self._connect)
        if not self._was_welcome.wait(timeout_s):
            self._loop.call_soon_threadsafe(self.close, lambda: None)
            raise Unavailable(
                "model_process_silent", f"the process of '{self._name}' does not answer"
            )

    @property
    def trouble(self) -> str | None:
        """Why no call can be run at the moment; None where all is well."""
        if self._is_welcome:
            return None
        return f"the process of '{self._name}' has died and is being started again"

    def load(self) -> Load:
        """Which process it is, and how things stood there when it last answered."""
        return self._load

    def check_room(self, call: Call) -> None:
        """Raise `Unavailable` where the process is away for long, `Exhausted` where too much waits.

        The queue proper is in the process, and one bound holds there for all workers; this one
        only keeps a worker from piling up what the process would refuse.
        """
        if not self._is_welcome and self._loop.time() >= self._held_until_s:
            raise _died(self.trouble or "")
        is_full = (
            self._rows + _weight(call) > self._most_rows
            or self._bytes + size_bytes(call) > self._most_bytes
        )
        if is_full and self._rows:
            raise Exhausted(
                "queue_full",
                f"{self._rows} rows wait for '{self._name}' already; try again in a moment",
                retry_after_s=_RETRY_AFTER_S,
            )

    def enqueue(self, call: Call) -> None:
        """Send the call with all others of this turn of the loop."""
        self._calls[call.number] = call
        self._rows += _weight(call)
        self._bytes += size_bytes(call)
        self._accepted.append(call)
        self._plan_turn()

    def forget(self, call: Call) -> None:
        """Tell the process that nobody waits for this call, so that it leaves the queue there."""
        if self._calls.pop(call.number, None) is None:
            return
        self._count_out(call)
        self._forgotten.append(call.number)
        self._plan_turn()

    def _count_out(self, call: Call) -> None:
        self._rows -= _weight(call)
        self._bytes -= size_bytes(call)

    def close(self, on_closed: Callable[[], None]) -> None:
        """Leave the process: it ends when the last worker has left."""
        if not self._is_closed:
            self._is_closed = True
            self._is_welcome = False
            if self._timer is not None:
                self._timer.cancel()
            if self._link is not None:
                self._link.close()
                self._link = None
            # Asks another process: not on the loop.
            threading.Thread(target=self._leave, name=f"leave {self._name}", daemon=True).start()
        on_closed()

    def _refuse_waiting(self) -> None:
        """The process may not be back in time."""
        if self._is_welcome or self._loop.time() < self._held_until_s:
            return
        waiting, self._accepted = self._accepted, []
        for call in waiting:
            if self._calls.pop(call.number, None) is not None:
                self._count_out(call)
                call.fail(_died(self.trouble or ""))

    # Out

    def _plan_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        link = self._link
        forgotten, self._forgotten = self._forgotten, []
        if link is None or not self._is_welcome:
            return
        accepted, self._accepted = self._accepted, []
        try:
            # One that ended within its first turn is neither asked nor forgotten there.
            asked = [call for call in accepted if call.number in self._calls]
            if asked:
                self._send(link, asked)
            unasked = {call.number for call in accepted}
            numbers = [number for number in forgotten if number not in unasked]
            if numbers:
                link.send(encode(Forget(numbers)))
        except BrokenRing:
            _log.exception("the process of %s", self._name)
            link.lose()

    def _send(self, link: Link, calls: Sequence[Call]) -> None:
        """Send calls in one message; one that cannot be put into it fails alone."""
        try:
            link.send(encode(Run([self._ask(link, call) for call in calls])))
        except BrokenRing:
            raise
        except Exception:  # noqa: BLE001 - the others of the turn must be sent
            if len(calls) > 1:
                for call in calls:
                    self._send(link, (call,))
                return
            (call,) = calls
            _log.exception("call %s cannot be sent to the process of %s", call.id, self._name)
            del self._calls[call.number]
            self._count_out(call)
            call.fail(Internal("unsendable", f"the call cannot be run; see the log for {call.id}"))

    def _ask(self, link: Link, call: Call) -> Asked:
        return Asked(
            call.number,
            [link.pack(call.inputs[spec.name]) for spec in self._signature.inputs],
            call.started_ns,
            call.deadline_ns,
            call.priority,
            None if call.parameters is None else dict(call.parameters),
        )

    # In

    def _take(self, frame: bytes) -> None:
        link = self._link
        assert link is not None  # noqa: S101 - frames come over it
        try:
            reply = decode_reply(frame)
            if isinstance(reply, Answers):
                self._count(reply)
                for number in reply.begun:
                    if (call := self._calls.get(number)) is not None:
                        call.has_run = True
                for ended in reply.ended:
                    self._end(link, ended)
            elif reply.protocol == PROTOCOL:
                self._load = Load(place=f"process {reply.pid}")
                self._is_welcome = True
                self._wait_s = 0.0
                self._was_welcome.set()
                self._plan_turn()
        except (BrokenRing, msgspec.MsgspecError):
            _log.exception("the process of %s", self._name)
            link.lose()

    def _count(self, answers: Answers) -> None:
        for batch in answers.batches:
            self._statistics.count_batch(batch.rows, batch.took_ns, batch.ended_ns)
        if answers.waits:
            self._statistics.count_waiting(answers.waits, answers.waited_ns)
        self._load = Load(
            place=self._load.place,
            queued_rows=answers.queued_rows,
            fixed_us=answers.fixed_us,
            row_us=answers.row_us,
        )

    def _end(self, link: Link, ended: Ended) -> None:
        call = self._calls.pop(ended.number, None)
        if call is not None:
            self._count_out(call)
        try:
            error = None if ended.fault is None else to_error(ended.fault)
            # Also of a call that nobody waits for: the memory is free when it has been read.
            outputs = {
                spec.name: link.unpack(spec, tensor)
                for spec, tensor in zip(self._signature.outputs, ended.outputs, strict=False)
            }
            if error is None and len(outputs) < len(self._signature.outputs):
                raise BrokenRing("an answer without all outputs")
        except ModelyardError as refusal:
            error = refusal
        except BrokenRing:
            if call is not None:
                call.fail(_died(f"the process of '{self._name}' answered with nonsense"))
            raise
        if call is None:
            return
        try:
            if error is None:
                call.answer(outputs)
            else:
                call.fail(error)
        except Exception:  # noqa: BLE001 - the others of the frame must get theirs
            _log.exception("the end of call %s could not be told", call.id)

    # The connection

    def _connect(self) -> None:
        self._timer = None
        if self._is_closed:
            return
        try:
            self._link = dial(self._loop, self._path, self._take, self._lost)
        except OSError:
            self._connect_later()

    def _connect_later(self) -> None:
        self._timer = self._loop.call_later(self._wait_s, self._connect)
        self._wait_s = min(max(2 * self._wait_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)

    def _lost(self) -> None:
        """Fail exactly the calls that the process held; connect again at once."""
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._is_welcome:
            _log.error("the process of %s has died; it is started again", self._name)
            self._held_until_s = self._loop.time() + _HOLD_S
            self._loop.call_at(self._held_until_s, self._refuse_waiting)
        self._is_welcome = False
        unsent = {call.number for call in self._accepted}
        held = [call for number, call in self._calls.items() if number not in unsent]
        for call in held:
            del self._calls[call.number]
            self._count_out(call)
        for call in held:
            call.fail(
                _died(f"the process of '{self._name}' died while it held this call; try it again")
            )
        self._connect_later()


def _died(message: str) -> Unavailable:
    return Unavailable("model_process_died", message, retry_after_s=_RETRY_AFTER_S)


def _weight(call: Call) -> int:
    return call.rows or 1
